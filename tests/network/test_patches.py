"""What iscl_node/network/patches replaces is still what it was written for: when a test fails, a patch may go."""

import ast
import inspect
import re
from hashlib import sha256
from pathlib import Path
from typing import TypeGuard

import pynetdicom
import pytest
from pydicom.datadict import tag_for_keyword
from pynetdicom import AE, acse, association, dimse, dimse_messages, dul, fsm, transport
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA
from surroundings import REPOSITORY

from iscl_node.network.patches.association_requests import as_meant
from iscl_node.network.patches.responses import keep_responses_from_reactor

PACKAGE = REPOSITORY / "iscl_node"
FOLDER = PACKAGE / "network" / "patches"
VERSION = "3.0.4"

REPLACED = {
    "association_requests": (dul.DULServiceProvider._decode_pdu, "fc71dd1bf853e1ce"),
    "broken_message": (dimse.DIMSEServiceProvider.receive_primitive, "5f99c86b14a15cef"),
    "broken_negotiation": (acse.ACSE.negotiate_association, "a6f771214fa494c1"),
    "broken_pdu": (fsm.StateMachine.do_action, "9a883f44c7f31641"),
    "discarded": (dimse_messages.DIMSEMessage.decode_msg, "f51c777e841a76be"),
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


def test_the_other_reactor_that_wakes_up_is_what_it_was() -> None:
    source = inspect.getsource(association.Association._run_reactor)
    assert sha256(source.encode()).hexdigest()[:16] == "f28838c5559e462a"
    assert "get_msg(block=False)" in source


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


def own_names() -> set[str]:
    """Every attribute that pynetdicom's code defines or sets, but for what has a setter."""
    names, offered = set[str](), set[str]()
    for path in Path(str(pynetdicom.__file__)).parent.rglob("*.py"):
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
                offered |= {node.name for each in node.decorator_list if ast.unparse(each) == f"{node.name}.setter"}
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Module):
                names |= {each.id for child in node.body for each in ast.walk(child) if _is_stored(each)}
    return {name for name in names - offered if tag_for_keyword(name) is None}


def _is_stored(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def replacing(source: str, names: set[str]) -> list[str]:
    """What in a module sets, or removes, an attribute of another object that has such a name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            if node.attr in names and ast.unparse(node.value) != "self":
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"setattr", "delattr", "vars"}:
            found.append(ast.unparse(node))
    return found


def test_pynetdicom_is_changed_in_one_place() -> None:
    """No other module that knows pynetdicom sets an attribute of it for which it offers no setter."""
    names = own_names()
    modules = [path for path in PACKAGE.rglob("*.py") if FOLDER not in path.parents]
    sources = {path: path.read_text(encoding="utf-8") for path in modules}
    users = {
        path: source for path, source in sources.items() if re.search(r"^\s*(import|from) pynetdicom", source, re.M)
    }
    assert len(users) > 10
    assert {path.name: found for path, source in users.items() if (found := replacing(source, names))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "association._serve_request = serve",
        "association.dimse.get_msg = get",
        "pynetdicom.fsm.AA_8 = silent",
        "pynetdicom._config.UNRESTRICTED_STORAGE_SERVICE = True",
        "message.data_set = None",
        "del event.assoc.acse",
        "with opened() as association.dul.socket: pass",
        "setattr(association, name, serve)",
    ],
)
def test_a_planted_change_of_pynetdicom_is_found(line: str) -> None:
    allowed = "entity.maximum_pdu_size = 16382\nassociation.dimse_timeout = 60\nresponse.Status = 0\n"
    assert len(replacing(allowed + line, own_names())) == 1
