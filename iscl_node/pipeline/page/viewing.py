"""Slices for the viewer of the page: source and derived, paired, from the spool, in HU."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from iscl_node.dicom.judging.noise_level import noise_level_hu
from iscl_node.dicom.reading.display import (
    SliceForm,
    SlicePlace,
    as_int16,
    form_of,
    provenance_of,
    shown_hu,
    slice_places,
    source_uid_of,
)
from iscl_node.domain import CT_STORAGE
from iscl_node.pipeline.page.overview import Row
from iscl_node.store import tree
from iscl_node.store.layout import Layout
from iscl_node.store.records.refused_slice import refused_in, refused_result

_KEPT: Final = 16
"""How many series' slice lists are kept in memory."""


@dataclass(frozen=True)
class DerivedSeries:
    """One derived CT series: ``places`` has the slice for each source slice that has one, by its number.

    ``unreadable`` counts its files that are no DICOM files, or damaged.
    """

    series_uid: str
    places: Mapping[int, SlicePlace]
    provenance: Mapping[str, str]
    unreadable: int = 0


@dataclass(frozen=True)
class RefusedSlice:
    """The slice that the judge refused: its number, boxes where it changed most, and where its result lies."""

    number: int
    boxes: tuple[tuple[int, ...], ...]
    folder: Path


@dataclass(frozen=True)
class ViewedSeries:
    """What a viewer can show of a batch; ``unreadable`` counts files of what was received that cannot be read."""

    sources: tuple[SlicePlace, ...]
    derived: tuple[DerivedSeries, ...]
    form: SliceForm
    refused: RefusedSlice | None = None
    unreadable: int = 0


class Viewing:
    """Finds and decodes slices; safe to be used by several threads.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    """

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[object, ...], ViewedSeries] = OrderedDict()

    def series(self, row: Row) -> ViewedSeries | None:
        """The slices of a batch; None if it holds no CT image that can be read.

        Raises
        ------
        QuarantineSeriesError, OutsideBytesError
            The slice in the middle cannot be read.
        OSError
            It was moved.
        """
        listed = row.listed
        mark = (listed.folder, len(listed.instances), tuple(sorted(listed.derived.items())))
        with self._lock:
            if mark in self._known:
                self._known.move_to_end(mark)
                return self._known[mark]
        viewed = self._viewed(row)
        if viewed is not None:
            with self._lock:
                self._known[mark] = viewed
                while len(self._known) > _KEPT:
                    self._known.popitem(last=False)
        return viewed

    def _viewed(self, row: Row) -> ViewedSeries | None:
        listed = row.listed
        sources = tuple(slice_places(listed.folder / name for name in listed.instances))
        if not sources:
            return None
        outbox = self._layout.outbox(listed.batch)
        wanted = row.planned_series or tuple(sorted(listed.derived))
        found = (_derived(outbox / uid, sources) for uid in wanted if listed.derived.get(uid))
        derived = tuple(each for each in found if each)
        form, unreadable = form_of(sources[len(sources) // 2]), len(listed.instances) - _files(sources)
        return ViewedSeries(sources, derived, form, _refused(listed.folder, sources), unreadable)

    def pixels(self, viewed: ViewedSeries, which: int, number: int) -> bytes | None:
        """Whole HU of a slice, 16 bits little-endian; ``which`` is 0 for the source, 1 for the first derived series.

        The result that the judge refused comes behind the last one.

        Raises
        ------
        QuarantineSeriesError, OutsideBytesError, OSError
            As `series`.
        """
        if viewed.refused and which == len(viewed.derived) + 1 and number == viewed.refused.number:
            return refused_result(viewed.refused.folder)
        place = _place(viewed, which, number)
        return None if place is None else as_int16(shown_hu(place))

    def noise_hu(self, viewed: ViewedSeries, which: int, number: int) -> float | None:
        """The noise in uniform soft tissue of a slice, HU; None where there is none, or no such slice.

        Raises
        ------
        QuarantineSeriesError, OutsideBytesError, OSError
            As `series`.
        """
        place = _place(viewed, which, number)
        return None if place is None else noise_level_hu(shown_hu(place))


def _derived(folder: Path, sources: tuple[SlicePlace, ...]) -> DerivedSeries | None:
    files = tree.files(folder, ".dcm")
    provenance = next(filter(None, map(provenance_of, files)), {})
    if provenance.get("sop_class_uid") not in CT_STORAGE:
        return None
    numbers = {(place.sop_instance_uid, place.frame): number for number, place in enumerate(sources)}
    made = slice_places(files)
    uids = {path: source_uid_of(path) for path in files}
    places = {
        number: place
        for index, place in enumerate(made)
        if (number := numbers.get((uids[place.path], place.frame), index if len(made) == len(sources) else None))
        is not None
    }
    return DerivedSeries(folder.name, places, provenance, len(files) - _files(made))


def _files(places: Iterable[SlicePlace]) -> int:
    return len({place.path for place in places})


def _refused(folder: Path, sources: tuple[SlicePlace, ...]) -> RefusedSlice | None:
    facts = refused_in(folder)
    with suppress(KeyError, TypeError, ValueError):
        place = facts["sop_instance_uid"], facts["frame"]
        numbers = [number for number, each in enumerate(sources) if (each.sop_instance_uid, each.frame) == place]
        boxes = tuple(tuple(map(int, box)) for box in facts["boxes"])
        return RefusedSlice(numbers[0], boxes, folder) if numbers else None
    return None


def _place(viewed: ViewedSeries, which: int, number: int) -> SlicePlace | None:
    if which == 0:
        return viewed.sources[number] if 0 <= number < len(viewed.sources) else None
    return viewed.derived[which - 1].places.get(number) if 0 < which <= len(viewed.derived) else None
