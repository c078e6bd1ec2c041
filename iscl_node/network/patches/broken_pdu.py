"""Replaces ``StateMachine.do_action``: a PDU that cannot be decoded ends its association, not the thread that reads."""

from collections.abc import Callable

from pynetdicom.association import Association

from iscl_node.errors import OutsideBytesError, outside_bytes

INVALID_PDU = "Evt19"
"""Of the upper layer's state machine (PS3.8 Table 9-6)."""


def abort_at_broken_pdu(association: Association, told: Callable[[], None]) -> None:
    """Have a PDU that breaks the rules end its connection, with an A-ABORT if there can be one.

    pynetdicom 3.0.4 lets the thread that reads die of it, and the connection stays until a time-out.

    Parameters
    ----------
    association : Association
        Before its first PDU is read.
    told : callable
        Called when there is such a PDU, and again for what follows from it.
    """
    machine = association.dul.state_machine
    do_action = machine.do_action

    def do_action_or_abort(event: str) -> None:
        if event == INVALID_PDU:
            told()
        try:
            with outside_bytes():
                do_action(event)
        except OutsideBytesError:
            told()
            if event == INVALID_PDU:
                _end(association)
                return
            association.dul.event_queue.put(INVALID_PDU)
            if association.is_acceptor and association.requestor.primitive is None:
                association.dul.to_user_queue.put(None)  # what a time-out gives, too: it waits for a request

    machine.do_action = do_action_or_abort  # type: ignore[method-assign]  # no other way in


def _end(association: Association) -> None:
    """Close the connection and let the association's threads end, where there is not even an A-ABORT."""
    transport = association.dul.socket
    if transport is not None:
        transport.close()
    association.is_aborted = True
    association.is_established = False
    association.dul.to_user_queue.put(None)  # what a time-out gives, too: somebody may wait
    association._kill = True
    association.dul._kill_thread = True
