"""Replaces ``DIMSEServiceProvider.receive_primitive``: a broken message ends its association, not the thread."""

from collections.abc import Callable

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import P_DATA

from iscl_node.errors import OutsideBytesError, outside_bytes
from iscl_node.network.patches.broken_pdu import INVALID_PDU


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
            with outside_bytes():
                receive(primitive)
                check(association)
        except OutsideBytesError:
            association.dul.event_queue.put(INVALID_PDU)
            told()

    association.dimse.receive_primitive = receive_or_abort  # type: ignore[method-assign]  # no other way in
