"""Verification SCU: is a peer there, and does it know us (PS3.4 A)."""

import time

from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from iscl_node.domain import Peer
from iscl_node.errors import RetryLaterError
from iscl_node.network.association import established

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
