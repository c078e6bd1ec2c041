"""Query SCU: which studies and series a peer has (PS3.4 C.6.2.1)."""

import difflib
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pynetdicom.presentation import build_context
from pynetdicom.status import QR_FIND_SERVICE_CLASS_STATUS

from iscl_node.domain import Peer
from iscl_node.errors import ConfigurationError
from iscl_node.network.scu.answers import SUCCESS, failure, lies_told
from iscl_node.network.scu.association import established
from iscl_node.network.scu.query import FIND, SYNTAXES, Responses

_STUDY_KEYS: Final = frozenset(
    (
        *("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyInstanceUID", "StudyDescription"),
        *("ModalitiesInStudy", "ReferringPhysicianName"),
        *("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    )
)
"""Attributes of the study level; all others are matched with the series."""
_NARROW: Final = _STUDY_KEYS - {"ModalitiesInStudy", "PatientSex", "StudyTime"}
"""One of them has to be given: others match a large part of an archive."""
_DATE: Final = "%Y%m%d"
_FIND_SECONDS: Final = 600.0
"""For all answers to one query."""


@dataclass(frozen=True)
class Query:
    """Attributes, by keyword, and what they must be (PS3.4 C.2.2.2), of studies and of their series."""

    study: Mapping[str, str] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=lambda: {"Modality": "CT"})

    @classmethod
    def read(cls, text: str) -> "Query":
        """Read ``Modality=CT StudyDate=20260101-20260131``; without Modality it is CT.

        Raises
        ------
        ConfigurationError
            It cannot be read, or would match almost everything.
        """
        keys = dict(map(_key, _words(text)))
        series = {"Modality": "CT", **{name: value for name, value in keys.items() if name not in _STUDY_KEYS}}
        study = {name: value for name, value in keys.items() if name in _STUDY_KEYS}
        if not any(study.get(name, "").strip("*?") for name in _NARROW):
            raise ConfigurationError(f"the query needs one of {', '.join(sorted(_NARROW))}: else it finds everything")
        study.setdefault("ModalitiesInStudy", series["Modality"])
        _data_set("STUDY", study)
        _data_set("SERIES", series)
        return cls(study, series)

    def days(self) -> Iterator["Query"]:
        """The same query for each day of its StudyDate: archives limit the number of their answers."""
        first, dash, last = self.study.get("StudyDate", "").partition("-")
        if not (first and dash and last):
            yield self
            return
        day, end = datetime.strptime(first, _DATE), datetime.strptime(last, _DATE)
        while day <= end:
            yield Query({**self.study, "StudyDate": day.strftime(_DATE)}, self.series)
            day += timedelta(days=1)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"the query {text!r} cannot be read: {error}") from error


def _key(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise ConfigurationError(f"{word!r} is no part of a query; they are written as Modality=CT")
    if name not in keyword_dict:
        near = difflib.get_close_matches(name, keyword_dict, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigurationError(f"{name!r} is no keyword of an attribute (PS3.6){hint}")
    return name, value


def _data_set(level: str, keys: Mapping[str, str]) -> Dataset:
    """The identifier of a C-FIND; what is to be in the answers is there without a value."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    for name, value in keys.items():
        tag = keyword_dict[name]
        try:
            query.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.RAISE))
        except (ValueError, TypeError, OverflowError) as error:
            raise ConfigurationError(f"{name}={value}: {error}") from error
    return query


def find_studies(peer: Peer, our_ae_title: str, query: Query) -> list[str]:
    """The Study Instance UIDs that match, in the order of the answers, for each day of its StudyDate on its own.

    Raises
    ------
    NothingAcceptedError, ServiceRefusedError
        The peer does not offer Study Root Query, or refuses this query.
    RetryLaterError
        It cannot be reached, stops answering, or answers what cannot be read.
    """
    found = []
    for day in query.days():
        found += _found(peer, our_ae_title, _data_set("STUDY", {"StudyInstanceUID": "", **day.study}))
    return list(dict.fromkeys(str(each.StudyInstanceUID) for each in found))


def find_series(peer: Peer, our_ae_title: str, study_uid: str, query: Query) -> list[str]:
    """The Series Instance UIDs of a study that match; for the errors see `find_studies`."""
    keys = {"SeriesInstanceUID": "", **query.series, "StudyInstanceUID": study_uid}
    modality = query.series.get("Modality", "")
    found = _found(peer, our_ae_title, _data_set("SERIES", keys))
    return [str(each.SeriesInstanceUID) for each in found if each.get("Modality", modality) == modality]


def _found(peer: Peer, our_ae_title: str, query: Dataset) -> list[Dataset]:
    with (
        established(peer, our_ae_title, [build_context(FIND, SYNTAXES)]) as association,
        lies_told(peer, "C-FIND"),
    ):
        responses = Responses(peer, "C-FIND", association, time.monotonic() + _FIND_SECONDS)
        found = []
        for answer in responses.pending(association.send_c_find(query, FIND)):
            if answer is None:
                raise responses.left("answered the C-FIND with what cannot be read")
            found.append(answer)
        if responses.status != SUCCESS:
            hint = "; does it limit the number of its answers? Ask for less at a time"
            raise failure(peer, "C-FIND", responses.status, QR_FIND_SERVICE_CLASS_STATUS, hint)
        return found
