"""What iscl_node/network/patches replaces is still what it was written for: when a test fails, a patch may go."""

import inspect
from hashlib import sha256
from pathlib import Path

import pynetdicom
import pytest
from pynetdicom import AE, acse, association, dimse, dul, fsm, transport
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA
from surroundings import REPOSITORY

from iscl_node.network.patches.association_requests import as_meant
from iscl_node.network.patches.responses import keep_responses_from_reactor

FOLDER = REPOSITORY / "iscl_node" / "network" / "patches"
VERSION = "3.0.4"

REPLACED = {
    "association_requests": (dul.DULServiceProvider._decode_pdu, "fc71dd1bf853e1ce"),
    "broken_message": (dimse.DIMSEServiceProvider.receive_primitive, "5f99c86b14a15cef"),
    "broken_negotiation": (acse.ACSE.negotiate_association, "a6f771214fa494c1"),
    "broken_pdu": (fsm.StateMachine.do_action, "9a883f44c7f31641"),
    "event_reports": (association.Association._serve_request, "2f24c1759cdf6c8c"),
    "pdu_reader": (transport.AssociationSocket.recv, "6bc20a33b1b7cfe7"),
    "requests_in_turn": (association.Association._serve_request, "2f24c1759cdf6c8c"),
    "responses": (dimse.DIMSEServiceProvider.get_msg, "890e3e04283f5aeb"),
    "stored_file": (association.Association.send_c_store, "fa5a8127f349f8e7"),
    "wake_ups": (dul.DULServiceProvider.run_reactor, "e3a10eb3a0931e48"),
    "waiting": (fsm.AA_8, "06c83317f08831fd"),
}
"""Each patch with the function that it replaces, or adds to, and the digest of that function's source."""


def test_the_version_is_the_one_that_the_patches_were_written_for() -> None:
    assert pynetdicom.__version__ == VERSION
    assert f'"pynetdicom=={VERSION}"' in (REPOSITORY / "pyproject.toml").read_text()


def test_every_patch_is_listed() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} - {"__init__"} == set(REPLACED)


@pytest.mark.parametrize("patch", REPLACED)
def test_what_a_patch_replaces_is_what_it_was_written_for(patch: str) -> None:
    replaced, digest = REPLACED[patch]
    assert sha256(inspect.getsource(replaced).encode()).hexdigest()[:16] == digest
    assert VERSION in (FOLDER / f"{patch}.py").read_text()


@pytest.fixture
def requestor() -> Association:
    """Never connected."""
    return Association(AE(), "requestor")


def test_the_reactor_takes_responses_from_the_thread_that_waits(requestor: Association) -> None:
    requestor.dimse.msg_queue.put((1, C_STORE()))
    assert requestor.dimse.get_msg()[0] == 1  # the reactor's call: without waiting
    keep_responses_from_reactor(requestor)
    requestor.dimse.msg_queue.put((1, C_STORE()))
    assert requestor.dimse.get_msg() == (None, None)
    assert requestor.dimse.get_msg(block=True)[0] == 1


def test_a_broken_message_raises_in_the_thread_that_reads(requestor: Association) -> None:
    broken = P_DATA()
    broken.presentation_data_value_list = [[1, b"\x03garbage"]]
    with pytest.raises(Exception, match=r".*"):
        requestor.dimse.receive_primitive(broken)


@pytest.mark.parametrize("title", [b" " * 16, b"NODE" + bytes(12), b"NO\\DE".ljust(16)])
def test_a_title_as_devices_write_it_cannot_be_decoded(requestor: Association, title: bytes) -> None:
    request = bytes.fromhex("0100 00000044 0001 0000") + title + b"CT1".ljust(16) + bytes(32)
    with pytest.raises(ValueError, match="AE Title"):
        requestor.dul._decode_pdu(bytearray(request))
    requestor.dul._decode_pdu(bytearray(as_meant(request)))


def test_the_patches_are_in_one_place() -> None:
    """No other module of the room replaces a method of pynetdicom."""
    for path in Path(REPOSITORY / "iscl_node" / "network").rglob("*.py"):
        if FOLDER not in path.parents:
            assert "method-assign" not in path.read_text(), path
