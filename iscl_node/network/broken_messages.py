"""A PDU or a message that cannot be decoded ends its association, and not the thread that reads."""

from collections.abc import Callable

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import P_DATA

_INVALID_PDU = "Evt19"
"""Of the upper layer's state machine (PS3.8 Table 9-6)."""

_SERVICE_PROVIDER = 2
"""Source of an A-ABORT (PS3.8 9.3.8)."""


def abort_at_broken_pdu(association: Association, told: Callable[[], None]) -> None:
    """Have a PDU that breaks the rules, in whatever it holds, end its connection, with an A-ABORT if there can be one.

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
        if event == _INVALID_PDU:
            told()
        try:
            do_action(event)
        except Exception:  # noqa: BLE001 - foreign bytes make the decoder raise almost anything
            told()
            if event == _INVALID_PDU:
                _end(association)
                return
            association.dul.event_queue.put(_INVALID_PDU)
            if association.is_acceptor and association.requestor.primitive is None:
                association.dul.to_user_queue.put(None)  # what a time-out gives, too: it waits for a request

    machine.do_action = do_action_or_abort  # type: ignore[method-assign]  # no other way in


def abort_at_broken_negotiation(association: Association, told: Callable[[], None]) -> None:
    """Have an A-ASSOCIATE that is a PDU, but lacks what it must hold, answered with an A-ABORT.

    pynetdicom 3.0.4 lets the association's thread die of it, and the connection stays until a time-out.

    Parameters
    ----------
    association : Association
        Before it is negotiated.
    told : callable
        Called when there is such an A-ASSOCIATE.
    """
    negotiate = association.acse.negotiate_association

    def negotiate_or_abort() -> None:
        try:
            negotiate()
            if association.is_established and not is_whole(association):
                raise ValueError
        except Exception:  # noqa: BLE001 - foreign values make the negotiation raise almost anything
            told()
            association.acse.send_abort(_SERVICE_PROVIDER)
            association.kill()  # returns when the A-ABORT is sent

    association.acse.negotiate_association = negotiate_or_abort  # type: ignore[method-assign]  # no other way in


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


def is_whole(association: Association) -> bool:
    """Whether the peer told its maximum length, and each accepted context has a transfer syntax (PS3.8 9.3.3.2, D.1).

    pynetdicom 3.0.4 takes an association without either, and fails later.
    """
    peer = association.acceptor if association.is_requestor else association.requestor
    return peer.maximum_length is not None and all(each.transfer_syntax for each in association.accepted_contexts)


def abort_at_broken_message(
    association: Association, told: Callable[[], None], check: Callable[[Association], None] = lambda _: None
) -> None:
    """Have a message that breaks the rules answered with an A-ABORT.

    pynetdicom 3.0.4 lets the thread that reads die of it.

    Parameters
    ----------
    association : Association
        Before its first PDU is read.
    told : callable
        Called when there is such a message.
    check : callable, optional
        Looks at the association's messages after each PDU and raises a ValueError if they are too much.
    """
    receive = association.dimse.receive_primitive

    def receive_or_abort(primitive: P_DATA) -> None:
        try:
            receive(primitive)
            check(association)
        except Exception:  # noqa: BLE001 - foreign bytes make the decoder raise almost anything
            association.dul.event_queue.put(_INVALID_PDU)
            told()

    association.dimse.receive_primitive = receive_or_abort  # type: ignore[method-assign]  # no other way in
