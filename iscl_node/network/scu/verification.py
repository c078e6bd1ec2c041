"""Verification SCU: is a peer there, does it know us (PS3.4 A), and how can it confirm what it keeps."""

import time

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from iscl_node.domain import InstanceReference, Peer
from iscl_node.errors import RetryLaterError
from iscl_node.network.commitment_reports import STORAGE_COMMITMENT
from iscl_node.network.scu.association import NothingAcceptedError, established
from iscl_node.network.scu.query import find_instances
from iscl_node.network.scu.storage_commitment import request

_SUCCESS = 0x0000


def echo(peer: Peer, our_ae_title: str) -> float:
    """Send one C-ECHO.

    Returns
    -------
    float
        Seconds from the request to the response, without the time of the association.

    Raises
    ------
    RetryLaterError
        The peer cannot be reached, does not take the association, or answers with a failure; the message says which.
    """
    with established(peer, our_ae_title, [build_context(Verification)]) as association:
        start = time.perf_counter()
        response = association.send_c_echo()
        seconds = time.perf_counter() - start
    if "Status" not in response:
        raise RetryLaterError(f"peer {peer.name} did not answer the C-ECHO")
    if response.Status != _SUCCESS:
        raise RetryLaterError(f"peer {peer.name} answered the C-ECHO with status {response.Status:04X}")
    return seconds


def confirmation_services(peer: Peer, our_ae_title: str) -> frozenset[str]:
    """Which services a peer offers by which it could confirm that it keeps what we sent: commitment, query.

    Raises
    ------
    RetryLaterError
        As `echo`.
    """
    services = {STORAGE_COMMITMENT: "commitment", StudyRootQueryRetrieveInformationModelFind: "query"}
    contexts = [build_context(each, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for each in services]
    try:
        with established(peer, our_ae_title, contexts) as association:
            accepted = {context.abstract_syntax for context in association.accepted_contexts}
    except NothingAcceptedError:
        return frozenset()
    return frozenset(name for syntax, name in services.items() if syntax in accepted)


def takes_commitment(peer: Peer, our_ae_title: str) -> None:
    """Ask a peer for storage commitment of an instance that does not exist; its report is not waited for.

    Raises
    ------
    RetryLaterError
        As `storage_commitment.request`.
    """
    instance = InstanceReference(CTImageStorage, generate_uid(prefix=None))
    request(peer, our_ae_title, generate_uid(prefix=None), [instance], report_seconds=0)


def answers_queries(peer: Peer, our_ae_title: str) -> None:
    """Ask a peer by C-FIND for a series that does not exist: it has none of it.

    Raises
    ------
    RetryLaterError
        As `find_instances`.
    """
    find_instances(peer, our_ae_title, generate_uid(prefix=None), generate_uid(prefix=None))
