"""Query/Retrieve SCU: what a peer has of a series, and to have it sent to us (PS3.4 C)."""

import time
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)
from pynetdicom.status import QR_FIND_SERVICE_CLASS_STATUS, QR_MOVE_SERVICE_CLASS_STATUS

from iscl_node.domain import Peer
from iscl_node.errors import RetryLaterError
from iscl_node.network.scu.answers import CANCELED, SUCCESS, failure, final_status, lies_told
from iscl_node.network.scu.association import established

SYNTAXES: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]

_PENDING = (0xFF00, 0xFF01)
"""The second says that a key was not matched against (PS3.4 C.4.1.1.4); all that we ask for are required ones."""
_SUBOPERATIONS_WITH_FAILURES = 0xB000
_UNKNOWN_DESTINATION = 0xA801

_MOST_ANSWERS = 100_000
"""Of a series; a whole-body CT has some thousand instances."""
_FIND_SECONDS = 600.0
"""For all answers together."""
FIND = StudyRootQueryRetrieveInformationModelFind

FOUND_AT_A_TIME = 50
"""UIDs in one request (PS3.4 C.2.2.2.2); archives limit their answers to a hundred or more, if at all."""

MOVED_AT_A_TIME = 100
"""UIDs in one request: a slow archive is done with them in time, and the value stays far below the 64 KiB that fit in
Explicit VR (PS3.5 7.1.2)."""
_MOVE_ANSWER_SECONDS = 600.0
"""Pending responses are optional (PS3.4 C.4.2.3.1): the first answer may be the last, and tapes are slow."""
_MOVE_SECONDS = 3600.0
"""For one request with all its answers."""


@dataclass(frozen=True)
class MoveResult:
    """How many sub-operations, which are C-STORE requests of the peer to us, ended how (PS3.4 C.4.2.1.6 to 8)."""

    completed: int = 0
    failed: int = 0
    warnings: int = 0

    def __add__(self, other: "MoveResult") -> "MoveResult":
        return MoveResult(self.completed + other.completed, self.failed + other.failed, self.warnings + other.warnings)


def find_instances(
    peer: Peer, our_ae_title: str, study_uid: str, series_uid: str, sent: Collection[str] = ()
) -> frozenset[str]:
    """Ask a peer by C-FIND which instances of a series it has.

    Archives that limit the number of their answers end the list early, some of them with success. What a list lacks is
    therefore asked for by its UID, as far as it is known.

    Parameters
    ----------
    peer : Peer
        Whom to ask.
    our_ae_title : str
        The calling AE title.
    study_uid, series_uid : str
        Study and Series Instance UID.
    sent : collection of str
        SOP Instance UIDs that it should have.

    Returns
    -------
    frozenset of str
        SOP Instance UIDs; empty if the peer has none. Never a part of what it said: that is an error.

    Raises
    ------
    NothingAcceptedError
        The peer does not offer Study Root Query.
    ServiceRefusedError
        It does, and refuses this query for good.
    RetryLaterError
        The peer cannot be reached, stops answering, is out of resources, or answers what cannot be read.
    """
    with (
        established(peer, our_ae_title, [build_context(FIND, SYNTAXES)]) as association,
        lies_told(peer, "C-FIND"),
    ):
        return _Finding(peer, association, _query(study_uid, series_uid)).found(sent)


class _Finding:
    """Finds the instances of a series on one association."""

    def __init__(self, peer: Peer, association: Association, series: Dataset) -> None:
        self._peer = peer
        self._association = association
        self._series = series
        self._end = time.monotonic() + _FIND_SECONDS

    def found(self, sent: Collection[str]) -> frozenset[str]:
        """All that the peer has, as far as it lists it, and of what was sent even so."""
        found, status = self._asked([])
        if status != SUCCESS and not sent:
            raise self._failure(status)
        for portion in _portions(sorted(set(sent) - found), FOUND_AT_A_TIME):
            found |= self._asked(portion)[0]
            for uid in sorted(set(portion) - found):  # the limit may be lower, or lists of UIDs be unknown
                found |= self._one(uid)
        return found

    def _one(self, uid: str) -> frozenset[str]:
        found, status = self._asked([uid])
        if status != SUCCESS and uid not in found:
            raise self._failure(status)
        return found

    def _asked(self, sop_uids: Sequence[str]) -> tuple[frozenset[str], int]:
        """What the peer answers for these UIDs, or for all of the series, and the status at the end."""
        query = Dataset()
        query.update(self._series)
        query.SOPInstanceUID = list(sop_uids) or ""
        found: set[str] = set()
        responses = Responses(self._peer, "C-FIND", self._association, self._end)
        for answer in responses.pending(self._association.send_c_find(query, FIND)):
            if answer is None:
                raise responses.left("answered the C-FIND with what cannot be read")
            if answer.get("SeriesInstanceUID", query.SeriesInstanceUID) in (query.SeriesInstanceUID, ""):
                found.add(str(answer.SOPInstanceUID))
        if responses.status is None:
            raise self._failure(None)
        return frozenset(found), responses.status

    def _failure(self, status: int | None) -> RetryLaterError:
        hint = "; does it limit the number of its answers?" if status == CANCELED else ""
        return failure(self._peer, "C-FIND", status, QR_FIND_SERVICE_CLASS_STATUS, hint)


def _portions(uids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (uids[start : start + size] for start in range(0, len(uids), size))


def move_instances(
    peer: Peer, our_ae_title: str, study_uid: str, series_uid: str, sop_uids: Sequence[str]
) -> MoveResult:
    """Have a peer send instances of a series to us by C-MOVE; they arrive at our Storage SCP.

    The peer must know where our AE title is: it opens the association for the instances itself.

    Parameters
    ----------
    peer : Peer
        Who has them.
    our_ae_title : str
        The calling AE title, and the destination.
    study_uid, series_uid : str
        Study and Series Instance UID.
    sop_uids : sequence of str
        SOP Instance UIDs; none is a success.

    Returns
    -------
    MoveResult
        What the peer says of its sub-operations. What arrived is what the Storage SCP took.

    Raises
    ------
    NothingAcceptedError
        The peer does not offer Study Root Retrieve.
    ServiceRefusedError
        It does, and refuses for good; most often it does not know our AE title.
    RetryLaterError
        The peer cannot be reached, stops answering, or cannot send now.
    """
    result = MoveResult()
    if not sop_uids:
        return result
    contexts = [build_context(StudyRootQueryRetrieveInformationModelMove, SYNTAXES)]
    with (
        established(peer, our_ae_title, contexts, answer_seconds=_MOVE_ANSWER_SECONDS) as association,
        lies_told(peer, "C-MOVE"),
    ):
        for portion in _portions(sop_uids, MOVED_AT_A_TIME):
            query = _query(study_uid, series_uid)
            query.SOPInstanceUID = list(portion)
            result += _move(peer, our_ae_title, association, query)
    return result


def _query(study_uid: str, series_uid: str) -> Dataset:
    """The unique keys down to the series, at the level of its instances (PS3.4 C.6.2.1)."""
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study_uid
    query.SeriesInstanceUID = series_uid
    return query


def _move(peer: Peer, our_ae_title: str, association: Association, query: Dataset) -> MoveResult:
    responses = Responses(peer, "C-MOVE", association, time.monotonic() + _MOVE_SECONDS)
    model = StudyRootQueryRetrieveInformationModelMove
    for _ in responses.pending(association.send_c_move(query, our_ae_title, model)):
        pass  # what is still to come is of no interest
    if responses.status in (SUCCESS, _SUBOPERATIONS_WITH_FAILURES):
        return _counts(responses.last, query["SOPInstanceUID"].VM if responses.status == SUCCESS else 0)
    raise failure(
        peer,
        "C-MOVE",
        responses.status,
        QR_MOVE_SERVICE_CLASS_STATUS,
        _destination_hint(responses.status, our_ae_title),
    )


def _destination_hint(status: int | None, our_ae_title: str) -> str:
    """What to look at where the peer may not know whom to send to; Orthanc just ends the association then."""
    if status == _UNKNOWN_DESTINATION:
        return f"; the peer does not know us as AE title {our_ae_title}: its configuration decides that"
    return f"; does it know us as AE title {our_ae_title}, and our port?" if status is None else ""


def _counts(response: Dataset, asked: int) -> MoveResult:
    """The counts of the last response, which a peer may leave out; after a success all that was asked is complete."""

    def count(keyword: str, default: int = 0) -> int:
        value = response.get(keyword)
        return default if value is None else int(value)

    failed, warnings = count("NumberOfFailedSuboperations"), count("NumberOfWarningSuboperations")
    return MoveResult(count("NumberOfCompletedSuboperations", max(0, asked - failed - warnings)), failed, warnings)


class Responses:
    """The responses to one request, as many and for as long as is reasonable.

    Parameters
    ----------
    peer : Peer
        Who responds.
    request : str
        What was asked.
    association : Association
        On which.
    end : float
        On the monotonic clock: they may not take longer.
    """

    def __init__(self, peer: Peer, request: str, association: Association, end: float) -> None:
        self._peer = peer
        self._request = request
        self._association = association
        self._end = end
        self._responses: Iterator[tuple[Dataset, Dataset | None]] = iter(())
        self.last = Dataset()

    @property
    def status(self) -> int | None:
        """The status of the last response; None if the peer stopped answering."""
        return final_status(self.last)

    def pending(self, responses: Iterator[tuple[Dataset, Dataset | None]]) -> Iterator[Dataset | None]:
        """What comes with each pending response; None if it cannot be read."""
        self._responses = responses
        for number, (response, answer) in enumerate(responses, start=1):
            self.last = response
            if self.status not in _PENDING:
                return
            if number > _MOST_ANSWERS or time.monotonic() > self._end:
                raise self.left(f"does not come to an end with its answers to the {self._request}")
            yield answer

    def left(self, why: str) -> RetryLaterError:
        """End the association in the middle of the responses, and say why.

        pynetdicom 3.0.4 holds the lock that sending needs while it hands on what it cannot decode: an abort at that
        moment would wait for ever.
        """
        if isinstance(self._responses, Generator):
            self._responses.close()
        self._association.abort()
        return RetryLaterError(f"peer {self._peer.name} {why}")
