"""How much of the peers' data sets is in memory: counted with every PDU, refused beyond the limits.

pynetdicom 3.0.4 collects a message of any size in memory, and queues as many messages as a peer sends without
waiting for a response. What is beyond the limits of data sets is read and thrown away, so that the sender hears
0xA700 for this one and can go on; a peer that breaks the protocol loses its connection.
"""

import threading
from collections.abc import Sequence
from functools import partial
from weakref import WeakKeyDictionary

import structlog
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.events import Event
from pynetdicom.pdu import P_DATA_TF

from iscl_node.domain import ReceptionLimits
from iscl_node.network.patches.association_requests import understand
from iscl_node.network.patches.broken_message import abort_at_broken_message
from iscl_node.network.patches.broken_negotiation import abort_at_broken_negotiation
from iscl_node.network.patches.broken_pdu import abort_at_broken_pdu
from iscl_node.network.patches.discarded import Discarded, discard_data_set, discard_pdu
from iscl_node.network.refusals import Refusal, Refused, shut

_LONGEST_COMMAND_SET = 16_384
"""Bytes. The longest of a C-STORE (PS3.7 Table 9.3-1) is below 500."""

LONGEST_OTHER_DATA_SET = 4 << 20
"""Bytes of what comes with other requests than C-STORE: a storage commitment report is the only one that is wanted, and
has 27,000 instances at 150 bytes for each."""

_MOST_REQUESTS_WAITING = 8
"""Without an asynchronous operations window, which is not accepted here, there should be none (PS3.7 D.3.3.3)."""

_IS_COMMAND = 0x01
"""Bit of the message control header (PS3.8 E.2)."""

_log = structlog.get_logger(__name__)


class Intake:
    """The data sets that are being received.

    Parameters
    ----------
    limits : ReceptionLimits
        Bytes of one and of all.
    refused : callable
        Called with the reason and the host when a connection is dropped.
    """

    def __init__(self, limits: ReceptionLimits, refused: Refused) -> None:
        self._limits = limits
        self._refused = refused
        # Always granted, so that a few large data sets, or peers that hold theirs half sent, keep no slice out.
        self._share = limits.receiving_bytes // limits.associations
        self._lock = threading.Lock()
        self._bytes: WeakKeyDictionary[Association, int] = WeakKeyDictionary()

    def on_pdu(self, event: Event) -> None:
        """Weigh a PDU before it is added to its message; for pynetdicom's EVT_PDU_RECV."""
        if not isinstance(event.pdu, P_DATA_TF):
            return
        association = event.assoc
        fragments = [item.presentation_data_value or b"" for item in event.pdu.presentation_data_value_items]
        commands = sum(len(fragment) - 1 for fragment in fragments if fragment[:1] and fragment[0] & _IS_COMMAND)
        broken = self._broken_rule(association, fragments, commands)
        if broken is not None:
            discard_pdu(event.pdu)
            self._drop(association, broken)
            return
        data = sum(len(fragment) - 1 for fragment in fragments) - commands
        if data:
            self._weigh(association, data)

    def on_connection(self, event: Event) -> None:
        """Have what cannot be decoded answered with an A-ABORT; for pynetdicom's EVT_CONN_OPEN."""
        association = event.assoc
        reasons: list[str] = []

        def told(reason: str) -> None:
            if not reasons:  # one line for each connection, with what came first
                self._tell_dropped(association, reason)
            reasons.append(reason)

        understand(association)
        abort_at_broken_pdu(association, partial(told, Refusal.NO_PDU))
        abort_at_broken_negotiation(association, partial(told, Refusal.NO_PDU))
        abort_at_broken_message(association, partial(told, Refusal.NO_MESSAGE))

    def done(self, association: Association, size: int) -> None:
        """Note that a data set of ``size`` bytes is answered and no longer in memory."""
        with self._lock:
            self._bytes[association] = max(0, self._bytes.get(association, 0) - size)

    @staticmethod
    def _broken_rule(association: Association, fragments: Sequence[bytes], commands: int) -> str | None:
        message = association.dimse.message
        waiting = 0 if message is None else message.encoded_command_set.tell()
        if not all(fragments):
            return Refusal.NO_CONTROL_HEADER
        if waiting + commands > _LONGEST_COMMAND_SET:
            return Refusal.COMMAND_TOO_LONG
        if association.dimse.msg_queue.qsize() > _MOST_REQUESTS_WAITING:
            return Refusal.NOT_WAITING
        return None

    def _weigh(self, association: Association, size: int) -> None:
        message = association.dimse.message
        if message is None or message.data_set is None:  # the command is in the same PDU
            self._take(association, size)
            return
        so_far = message.data_set
        if isinstance(so_far, Discarded):
            return
        total = self._take(association, size)
        longest = self._limits.instance_bytes if isinstance(message, C_STORE_RQ) else LONGEST_OTHER_DATA_SET
        if so_far.tell() + size > longest:
            discard_data_set(message, "larger than scp.max_instance_bytes")
        elif total > self._limits.receiving_bytes and so_far.tell() + size > self._share:
            discard_data_set(message, "scp.max_receiving_bytes are being received")
        else:
            return
        self.done(association, so_far.tell() + size)

    def _take(self, association: Association, size: int) -> int:
        """Count bytes, and return how many all living associations have."""
        with self._lock:
            self._bytes[association] = self._bytes.get(association, 0) + size
            return sum(count for each, count in self._bytes.items() if each.is_alive())

    def _tell_dropped(self, association: Association, reason: str) -> None:
        calling = str(association.requestor.ae_title).strip()
        _log.warning("connection.dropped", host=_host(association), calling_ae_title=calling, reason=reason)
        self._refused(reason, _host(association))

    def _drop(self, association: Association, reason: str) -> None:
        self._tell_dropped(association, reason)
        transport = association.dul.socket
        if transport is not None and transport.socket is not None:
            shut(transport.socket)


def _host(association: Association) -> str:
    return str(association.requestor.address)
