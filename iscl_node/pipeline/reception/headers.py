"""Facts from the headers of an open series, read little by little, so that a large series holds up no other."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from iscl_node.dicom.reading.folder import Instance
from iscl_node.dicom.reading.frames import is_multiframe
from iscl_node.dicom.selecting.completeness import Coverage, Slice, coverage, slice_of
from iscl_node.dicom.selecting.eligibility import fault_of, is_left_out
from iscl_node.dicom.selecting.rules import findings, representative
from iscl_node.domain import CompletenessPolicy, Rule
from iscl_node.errors import IsclNodeError, QuarantineSeriesError, outside_bytes, text_of
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.store.receiving.open_series import OpenSeries

_log = structlog.get_logger(__name__)

_UNREADABLE = Slice(None, None, None)


@dataclass(frozen=True)
class SeriesFacts:
    """What is known of an open series, with what is here of its earlier batches.

    ``policy`` is that of its rule; None where there is nothing to wait for, because no rule holds, the rule says
    ignore, or the instances cannot be processed.
    """

    policy: CompletenessPolicy | None
    study_instance_uid: str
    sop_instance_uids: frozenset[str]
    coverage: Coverage


@dataclass
class _Headers:
    """What was read of a series so far, by file name; ``first`` is the instance that decides on the rule.

    None stands for what is no slice of the series, such as a localizer.
    """

    slices: dict[str, Slice | None] = field(default_factory=dict)
    first: Instance | None = None
    is_fit: bool = True
    facts: SeriesFacts | None = None
    last_arrival: float | None = None
    """To which the facts belong."""


class FactsReader:
    """Reads headers, and none twice as long as the series is open.

    Parameters
    ----------
    open_series : OpenSeries
        What is read.
    rules : sequence of Rule
        The first that matches decides.
    headers : KeptHeaders
        What is known of the instances without reading them.
    clock : callable
        Seconds that only ever grow.
    """

    def __init__(
        self,
        open_series: OpenSeries,
        rules: Sequence[Rule],
        headers: KeptHeaders,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_series = open_series
        self._instance = headers.instance
        self._rules = rules
        self._clock = clock
        self._headers: dict[str, _Headers] = {}

    def read(self, series_uids: Iterable[str], seconds: float) -> dict[str, SeriesFacts]:
        """Read for so long, those first of which least is to be read, and return what is known of whole series."""
        end = self._clock() + seconds
        unread = {uid: self._unread(uid) for uid in series_uids}
        known = {}
        for uid in sorted(unread, key=lambda each: len(unread[each])):
            if self._read_until(end, self._headers[uid], unread[uid]):
                known[uid] = self._facts(self._headers[uid])
        return known

    def forget(self, series_uid: str) -> None:
        """The series is not open any more."""
        self._headers.pop(series_uid, None)

    def _unread(self, series_uid: str) -> list[tuple[Path, bool]]:
        """The files to be read, and whether each is of the open series itself; none while nothing new arrived."""
        headers = self._headers.setdefault(series_uid, _Headers())
        last_arrival = self._open_series.last_arrival(series_uid)
        if headers.facts is not None and headers.last_arrival == last_arrival:
            return []
        headers.facts, headers.last_arrival = None, last_arrival
        opened = self._open_series.instances(series_uid)
        folders = self._open_series.earlier_instances(series_uid) | opened
        if headers.slices.keys() - folders:  # some were deleted
            headers = self._headers[series_uid] = _Headers(last_arrival=last_arrival)
        return [(folder / name, name in opened) for name, folder in folders.items() if name not in headers.slices]

    def _read_until(self, end: float, headers: _Headers, files: Sequence[tuple[Path, bool]]) -> bool:
        """Read files; whether all of them were."""
        for number, (path, is_open) in enumerate(files, start=1):
            try:
                self._add(headers, path, is_open)
            except FileNotFoundError:  # it moved; looked for again next time
                return False
            if self._clock() >= end:
                return number == len(files)
        return True

    def _add(self, headers: _Headers, path: Path, is_open: bool) -> None:
        try:
            with outside_bytes(FileNotFoundError):
                instance = self._instance(path)
                is_slice = is_multiframe(instance) or not is_left_out(instance)
                headers.slices[path.name] = slice_of(instance) if is_slice else None
                if is_open and is_slice:
                    headers.is_fit &= _is_fit(instance)
                    headers.first = instance if headers.first is None else representative([headers.first, instance])
        except IsclNodeError as error:  # it must not keep the series open: the workflow reports the fault
            _log.warning("header.not_read", fault=text_of(error))
            headers.slices[path.name], headers.is_fit = _UNREADABLE, False

    def _facts(self, headers: _Headers) -> SeriesFacts:
        if headers.facts is None:
            first, count = headers.first, len(headers.slices)
            headers.facts = SeriesFacts(
                self._policy(first, count) if headers.is_fit and first is not None else None,
                "" if first is None else str(first.StudyInstanceUID),
                frozenset(name.removesuffix(".dcm") for name in headers.slices),
                coverage([each for each in headers.slices.values() if each is not None]),
            )
        return headers.facts

    def _policy(self, instance: Instance, instance_count: int) -> CompletenessPolicy | None:
        try:
            judged = list(findings(self._rules, [instance], instance_count))
        except QuarantineSeriesError:  # the workflow reports it
            return None
        if not judged or not judged[-1].finding.holds or judged[-1].rule.ignore:
            return None
        return judged[-1].rule.completeness


def _is_fit(instance: Instance) -> bool:
    """Whether the node would process it; of multi-frame CT, whose frames take long to read, it is assumed."""
    return is_multiframe(instance) or fault_of(instance) is None
