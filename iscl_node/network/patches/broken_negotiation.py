"""Replaces ``ACSE.negotiate_association``: what an A-ASSOCIATE lacks ends the association, not its thread."""

from collections.abc import Callable

from pynetdicom.association import Association

from iscl_node.errors import OutsideBytesError, outside_bytes

_SERVICE_PROVIDER = 2
"""Source of an A-ABORT (PS3.8 9.3.8)."""


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
            with outside_bytes():
                negotiate()
                if association.is_established and not is_whole(association):
                    raise ValueError
        except OutsideBytesError:
            told()
            association.acse.send_abort(_SERVICE_PROVIDER)
            association.kill()  # returns when the A-ABORT is sent

    association.acse.negotiate_association = negotiate_or_abort  # type: ignore[method-assign]  # no other way in


def is_whole(association: Association) -> bool:
    """Whether the peer named its maximum length, and each accepted context has a transfer syntax (PS3.8 9.3.3.2, D.1).

    pynetdicom 3.0.4 takes an association without either, and fails later.
    """
    peer = association.acceptor if association.is_requestor else association.requestor
    return peer.maximum_length is not None and all(each.transfer_syntax for each in association.accepted_contexts)
