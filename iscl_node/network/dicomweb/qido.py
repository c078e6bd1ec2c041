"""QIDO-RS: what a destination has of a series (PS3.18 10.6)."""

import time
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Final

from iscl_node.domain import Peer
from iscl_node.errors import OutsideBytesError, RetryLaterError, outside_bytes
from iscl_node.network.dicomweb.connection import Connection, connected, failure, named
from iscl_node.network.dicomweb.dicom_json import (
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    DataSet,
    data_sets,
    value,
)

_FOUND: Final = (HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT)
_MOST_INSTANCES: Final = 100_000
"""Of a series; a whole-body CT has some thousand."""
_FIND_SECONDS: Final = 600.0
"""For all pages together."""


def find_instances(peer: Peer, study_uid: str, series_uid: str, sent: Collection[str] = ()) -> frozenset[str]:
    """Ask a destination which instances of a series it has.

    It may answer with fewer than it has (PS3.18 8.3.4.4): the next are asked for until none is new, or all are there
    that were sent.

    Parameters
    ----------
    peer : Peer
        Whom to ask.
    study_uid, series_uid : str
        Study and Series Instance UID.
    sent : collection of str
        SOP Instance UIDs that it should have.

    Returns
    -------
    frozenset of str
        SOP Instance UIDs; empty if it has none. Never a part of what it said: that is an error.

    Raises
    ------
    ServiceRefusedError
        It refuses this query for good.
    RetryLaterError
        It cannot be reached, or answers what cannot be read.
    """
    found: set[str] = set()
    end = time.monotonic() + _FIND_SECONDS
    keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
    with connected(peer) as connection:
        while True:
            page = _instances(peer, connection, {**keys, **({"offset": len(found)} if found else {})})
            new = {str(value(each, SOP_INSTANCE_UID)) for each in page if _is_of(each, series_uid)} - found
            found |= new
            if not new or (sent and found >= set(sent)):
                return frozenset(found - {""})
            if len(found) > _MOST_INSTANCES or time.monotonic() > end:
                raise RetryLaterError(f"{named(peer)} does not come to an end with its answers to QIDO-RS")


def has_instance(peer: Peer, connection: Connection, sop_uid: str) -> bool:
    """Whether a destination has an instance, in whichever series."""
    page = _instances(peer, connection, {"SOPInstanceUID": sop_uid, "limit": 1})
    return any(value(each, SOP_INSTANCE_UID) == sop_uid for each in page)


def verify(peer: Peer) -> float:
    """Ask a destination for one instance of any kind.

    Returns
    -------
    float
        Seconds until its answer, with the time of the connection.

    Raises
    ------
    RetryLaterError
        As `find_instances`.
    """
    start = time.perf_counter()
    with connected(peer) as connection:
        _instances(peer, connection, {"limit": 1})
    return time.perf_counter() - start


def _instances(peer: Peer, connection: Connection, keys: dict[str, str | int]) -> Sequence[DataSet]:
    """One page of what matches; searched among all instances, where what is not there is no error (PS3.18 10.6.1)."""
    answer = connection.get("instances", keys)
    if answer.status not in _FOUND:
        raise failure(peer, "QIDO-RS", answer.status)
    try:
        with outside_bytes():
            return data_sets(answer.body)
    except OutsideBytesError as error:
        raise RetryLaterError(f"{named(peer)} answered the QIDO-RS with what cannot be read ({error})") from error


def _is_of(found: DataSet, series_uid: str) -> bool:
    """Whether it is of the series, for what does not match by it; the key need not be in the answer."""
    return value(found, SERIES_INSTANCE_UID) in (series_uid, "")
