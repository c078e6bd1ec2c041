"""A scripted Storage Commitment SCP: what it says to a request, and how it reports."""

import threading
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import N_ACTION_RSP
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode
from pynetdicom.events import Event
from scripted_peers import ScriptedStorageScp

from iscl_node.network.commitment_reports import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE

Speak = Callable[[Association, Dataset], None]


def event_information(
    transaction_uid: str, committed: Sequence[str] = (), failed: Mapping[str, int] | None = None
) -> Dataset:
    """The data set of a report (PS3.4 Table J.3-4)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    if committed:
        information.ReferencedSOPSequence = [_item(uid) for uid in committed]
    if failed:
        information.FailedSOPSequence = [_item(uid, reason) for uid, reason in failed.items()]
    return information


def _item(uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
    if reason is not None:
        item.FailureReason = reason
    return item


def encoded(information: Dataset, *, implicit: bool = False) -> bytes:
    """A data set as it travels."""
    return encode(information, implicit, True) or b""


def send_report(association: Association, information: bytes | None, event_type: int | None = 1) -> None:
    """Send an N-EVENT-REPORT request whatever its content, and wait for no answer."""
    request = N_EVENT_REPORT()
    request.MessageID = 7
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
    request.EventTypeID = event_type
    request.EventInformation = None if information is None else BytesIO(information)
    (context,) = (each for each in association.accepted_contexts if each.abstract_syntax == STORAGE_COMMITMENT)
    association.dimse.send_msg(request, context.context_id)


class ScriptedCommitmentScp(ScriptedStorageScp):
    """Answers an N-ACTION with a status, and then says on the same association what it is told to.

    Parameters
    ----------
    status : int
        Of the answer.
    before, speak : callable, optional
        Called with the association and the request's data set, before and after the answer.
    """

    def __init__(self, status: int = 0x0000, speak: Speak | None = None, before: Speak | None = None) -> None:
        super().__init__([])
        self.status = status
        self.requests: list[Dataset] = []
        self.statuses_heard: list[int] = []
        self._speak = speak
        self._before = before

    def _on_action(self, event: Event) -> tuple[int, None]:
        self.requests.append(event.action_information)
        if self._before is not None:
            self._before(event.assoc, event.action_information)
        return self.status, None

    def _on_sent(self, event: Event) -> None:
        if isinstance(event.message, N_ACTION_RSP) and self._speak is not None:
            # Behind the response, which is on its way: both go through one queue.
            threading.Timer(0.05, self._speak, (event.assoc, self.requests[-1])).start()

    def _on_received(self, event: Event) -> None:
        command = event.message.command_set
        if command.CommandField == 0x8100:
            self.statuses_heard.append(command.Status)

    def handlers(self) -> list[tuple]:
        return [
            *super().handlers(),
            (evt.EVT_N_ACTION, self._on_action),
            (evt.EVT_DIMSE_SENT, self._on_sent),
            (evt.EVT_DIMSE_RECV, self._on_received),
        ]
