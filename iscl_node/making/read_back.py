"""What is to be sent of a series, read back from disk beside its sources, each file once: judged, and measured."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from iscl_node.dicom.deriving.writing import keep_loss_history
from iscl_node.dicom.evidence.measurements import SliceMeasurements, mean_shift_hu, measured_slice
from iscl_node.dicom.evidence.objects import frame_number
from iscl_node.dicom.judging.series import SeriesJudge, sample, series_noise_level_hu
from iscl_node.dicom.reading.folder import Instance, read_with_pixels
from iscl_node.dicom.reading.frames import frames, is_multiframe
from iscl_node.dicom.reading.volume import Slice, to_hu
from iscl_node.dicom.uids import SERIES, derived_uid, instance_uid
from iscl_node.domain import NO_EVIDENCE, Derivation, EvidenceChoice
from iscl_node.errors import QuarantineSeriesError

MOST_MEASURED: Final = 50
"""A report measures at most so many slices, evenly through the series: half a second each."""


@dataclass
class Pair:
    """An instance and what was derived of it; and, for one of one frame, what was computed when it was read."""

    source: Instance
    derived: Instance
    removed_hu: Slice | None = None
    measurements: SliceMeasurements | None = None

    def slices(self) -> "list[Pair]":
        """Itself, or a pair for each frame."""
        if not is_multiframe(self.source):
            return [self]
        return [Pair(*views) for views in zip(frames(self.source), frames(self.derived), strict=True)]

    def taken_removed_hu(self) -> Slice:
        """What was removed, HU; it is not kept."""
        removed_hu, self.removed_hu = self.removed_hu, None
        return _hu(self.source) - _hu(self.derived) if removed_hu is None else removed_hu

    def measured(self) -> SliceMeasurements:
        """What the report says of it."""
        return self.measurements or measured_slice(_hu(self.source), _hu(self.derived))


@dataclass
class DerivedSeries:
    """A derived series that was judged, and pairs for evidence.

    Its noise, and how far the mean of soft tissue moved, are in HU; None where nothing can be measured.
    """

    derivation: Derivation
    noise_hu: float | None = None
    drift_hu: float | None = None
    pairs: list[Pair] = field(default_factory=list)


def measured_numbers(count: int) -> list[int]:
    """Which of so many slices are measured."""
    return [int(index) for index in np.linspace(0, count - 1, min(count, MOST_MEASURED)).round()]


def read_back(
    sources: Sequence[Path], folder: Path, derivations: Sequence[Derivation], choice: EvidenceChoice = NO_EVIDENCE
) -> Iterator[DerivedSeries]:
    """Check that each derived slice is that of its source, in the files that are to be sent, and measure.

    A series is never in memory, only what was removed of it, if there is to be a map: then the derived series are read
    one after the other, and the sources with each.

    Parameters
    ----------
    sources : sequence of Path
        The files of the source series, in the order of their positions.
    folder : Path
        Holds the derived instances, as ``<Series Instance UID>/<SOP Instance UID>.dcm``.
    derivations : sequence of Derivation
        How the source was processed.
    choice : EvidenceChoice
        What is to go beside each series.

    Raises
    ------
    QuarantineSeriesError
        If a derived instance is missing, or is not that of its source.
    """
    groups = [[each] for each in derivations] if choice.noise_map else [list(derivations)]
    for group in groups:
        readers = [_Reader(sources, folder, derivation, choice) for derivation in group]
        for index, path in enumerate(sources):
            source = read_with_pixels(path)
            images = None if is_multiframe(source) else [to_hu(source)]
            for reader in readers:
                reader.take(index, source, map(to_hu, frames(source)) if images is None else images)
        for reader in readers:
            yield reader.ended()


class _Reader:
    """Reads one derived series."""

    def __init__(self, sources: Sequence[Path], folder: Path, derivation: Derivation, choice: EvidenceChoice) -> None:
        self._sources, self._folder, self._choice = sources, folder, choice
        self._sampled = sample(range(len(sources)))
        self._measured = set(measured_numbers(len(sources))) if choice.report else set()
        self._judge = SeriesJudge()
        self._sampled_hu: list[tuple[Slice, Slice]] = []
        self._series = DerivedSeries(derivation)

    def take(self, index: int, source: Instance, images_hu: Iterable[Slice]) -> None:
        """Take the next source, with its slices in HU, and what was derived of it."""
        derived = self._derived_of(source)
        views = list(zip(frames(source), frames(derived), strict=True))
        numbers = sample(range(len(views)))[:: len(self._sampled)] if index in self._sampled else []
        for number, (view, before_hu) in enumerate(zip(views, images_hu, strict=True)):
            after_hu = to_hu(view[1])
            self._judge.add(*view, before_hu, after_hu)
            if number in numbers:
                self._sampled_hu.append((before_hu, after_hu))
        if self._choice != NO_EVIDENCE:
            is_single = not is_multiframe(source)
            self._series.pairs.append(
                self._computed(index, source, derived, before_hu, after_hu) if is_single else Pair(source, derived)
            )

    def _computed(self, index: int, source: Instance, derived: Instance, before_hu: Slice, after_hu: Slice) -> Pair:
        """Compute what the pixels are needed for; only the headers are kept."""
        keep_loss_history(source, source)  # the ratio of a loss that only the transfer syntax shows needs the pixels
        for instance in (source, derived):
            instance.pop("PixelData", None)
        return Pair(
            source,
            derived,
            before_hu - after_hu if self._choice.noise_map else None,
            measured_slice(before_hu, after_hu) if index in self._measured else None,
        )

    def ended(self) -> DerivedSeries:
        """All sources are taken: what there is to say of the series."""
        self._judge.end(self._images_hu)
        self._series.noise_hu = series_noise_level_hu(after_hu for _, after_hu in self._sampled_hu)
        self._series.drift_hu = mean_shift_hu(self._sampled_hu)
        return self._series

    def _derived_of(self, source: Instance) -> Instance:
        derivation = self._series.derivation
        series_uid = derived_uid(str(source.SeriesInstanceUID), derivation, SERIES)
        sop_uid = instance_uid(str(source.SeriesInstanceUID), str(source.SOPInstanceUID), derivation)
        path = self._folder / series_uid / f"{sop_uid}.dcm"
        if not path.is_file():
            raise QuarantineSeriesError("a source instance has no derived instance")
        return read_with_pixels(path)

    def _images_hu(self, number: int) -> tuple[Slice, Slice]:
        """Read a slice and what was derived of it once more, for a picture."""
        pairs = (Pair(source, self._derived_of(source)) for source in map(read_with_pixels, self._sources))
        pair = next(islice((each for pair in pairs for each in pair.slices()), number, None))
        return to_hu(pair.source), to_hu(pair.derived)


def _hu(view: Instance) -> Slice:
    """Read the pixels without keeping them in the view, as a data set would; a frame of many reads anew by itself."""
    return to_hu(view if frame_number(view) else read_with_pixels(Path(str(view.filename))))
