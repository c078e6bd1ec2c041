"""What goes beside a derived series, the same in the node and on the command line: noise maps and the report.

Both are made of the pixels as they are written, source and derived, read once more slice by slice: never is a series
in memory, only what was removed of it, if there is to be a map.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from iscl_node.dicom.evidence.measurements import SliceMeasurements, measured_series, measured_slice
from iscl_node.dicom.evidence.noise_map import map_groups, noise_map
from iscl_node.dicom.evidence.objects import frame_number
from iscl_node.dicom.evidence.report import report
from iscl_node.dicom.reading.folder import Instance, read_with_pixels
from iscl_node.dicom.reading.frames import frames, is_multiframe
from iscl_node.dicom.reading.volume import Slice, to_hu
from iscl_node.dicom.uids import SERIES, derived_uid, instance_uid
from iscl_node.domain import NO_EVIDENCE, Derivation, EvidenceChoice
from iscl_node.errors import QuarantineSeriesError

MOST_MEASURED: Final = 50
"""A report measures at most so many slices, evenly through the series: half a second each."""


def evidence(
    sources: Sequence[Path], folder: Path, derivation: Derivation, started: datetime, choice: EvidenceChoice
) -> Iterator[Instance]:
    """Make the objects that go beside a derived series.

    Parameters
    ----------
    sources : sequence of Path
        The files of the source series, in the order of their positions.
    folder : Path
        Holds the derived instances, as ``<Series Instance UID>/<SOP Instance UID>.dcm``.
    derivation : Derivation
        How the source was processed.
    started : datetime
        When the derived series was begun.
    choice : EvidenceChoice
        What is made.

    Raises
    ------
    QuarantineSeriesError
        If a derived instance is missing, or pixels cannot be read.
    """
    if choice == NO_EVIDENCE:
        return
    pairs = _read(sources, folder, derivation, choice)
    slices = [each for pair in pairs for each in pair.slices()]
    if choice.noise_map:
        yield from _noise_maps(slices, derivation, started)
    if choice.report:
        measured = measured_series((slices[index].measured() for index in _chosen(len(slices))), len(slices))
        yield report([each.source for each in pairs], [each.derived for each in pairs], measured, derivation, started)


@dataclass
class _Pair:
    """An instance and what was derived of it; and, for one of one frame, what was computed when it was read."""

    source: Instance
    derived: Instance
    removed_hu: Slice | None = None
    measurements: SliceMeasurements | None = None

    def slices(self) -> "list[_Pair]":
        """Itself, or a pair for each frame."""
        if not is_multiframe(self.source):
            return [self]
        return [_Pair(*views) for views in zip(frames(self.source), frames(self.derived), strict=True)]

    def taken_removed_hu(self) -> Slice:
        """What was removed, HU; it is not kept."""
        removed_hu, self.removed_hu = self.removed_hu, None
        return _hu(self.source) - _hu(self.derived) if removed_hu is None else removed_hu

    def measured(self) -> SliceMeasurements:
        """What the report tells of it."""
        return self.measurements or measured_slice(_hu(self.source), _hu(self.derived))


def _read(sources: Sequence[Path], folder: Path, derivation: Derivation, choice: EvidenceChoice) -> list[_Pair]:
    """Read each file once: of instances of one frame only the headers are kept, and what is computed of the pixels."""
    measured = set(_chosen(len(sources))) if choice.report else set()
    pairs = []
    for index, path in enumerate(sources):
        source = read_with_pixels(path)
        pair = _Pair(source, _derived_of(source, folder, derivation))
        if not is_multiframe(source):
            before, after = to_hu(source), to_hu(pair.derived)
            pair.removed_hu = before - after if choice.noise_map else None
            pair.measurements = measured_slice(before, after) if index in measured else None
            for instance in (source, pair.derived):
                del instance.PixelData
        pairs.append(pair)
    return pairs


def _noise_maps(slices: Sequence[_Pair], derivation: Derivation, started: datetime) -> Iterator[Instance]:
    sources = [each.source for each in slices]
    for number, group in enumerate(map_groups(sources), start=1):
        removed = np.empty((len(group), int(sources[group[0]].Rows), int(sources[group[0]].Columns)), np.float32)
        for row, index in enumerate(group):
            removed[row] = slices[index].taken_removed_hu()
        yield noise_map([sources[index] for index in group], removed, derivation, started, number)


def _chosen(count: int) -> list[int]:
    """Which of so many slices are measured."""
    return [int(index) for index in np.linspace(0, count - 1, min(count, MOST_MEASURED)).round()]


def _derived_of(source: Instance, folder: Path, derivation: Derivation) -> Instance:
    series_uid = derived_uid(str(source.SeriesInstanceUID), derivation, SERIES)
    sop_uid = instance_uid(str(source.SeriesInstanceUID), str(source.SOPInstanceUID), derivation)
    path = folder / series_uid / f"{sop_uid}.dcm"
    if not path.is_file():
        raise QuarantineSeriesError("a derived instance is missing, so nothing can be told of the series")
    return read_with_pixels(path)


def _hu(view: Instance) -> Slice:
    """Read the pixels without keeping them in the view, as a data set would; a frame of many reads anew by itself."""
    return to_hu(view if frame_number(view) else read_with_pixels(Path(str(view.filename))))
