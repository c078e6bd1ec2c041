"""Adds to the state machine: who waits for an answer hears when there will be none."""

from pynetdicom.events import Event

_ABORT_BECAUSE_OF_PEER = "AA-8"
"""Of the upper layer's state machine (PS3.8 Table 9-9)."""


def wake_at_broken_protocol(event: Event) -> None:
    """Let the thread that waits for an answer go on when there will be none; for pynetdicom's EVT_FSM_TRANSITION.

    pynetdicom 3.0.4 does so when the peer aborts, and not when a PDU that is none makes us abort.
    """
    if event.action == _ABORT_BECAUSE_OF_PEER:
        event.assoc.dimse.msg_queue.put((None, None))
