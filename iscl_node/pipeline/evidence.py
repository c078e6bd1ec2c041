"""What goes beside a derived series, the same in the node and on the command line: noise maps and the report.

Both are made of the pixels as they are written, source and derived, read once more slice by slice: never is a series
in memory, only the slices of one map.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from iscl_node.dicom.evidence import frame_number
from iscl_node.dicom.folder import Instance, read_instance, read_with_pixels
from iscl_node.dicom.frames import frames
from iscl_node.dicom.measurements import SliceMeasurements, measured_series, measured_slice
from iscl_node.dicom.noise_map import map_groups, noise_map
from iscl_node.dicom.report import report
from iscl_node.dicom.uids import SERIES, derived_uid, instance_uid
from iscl_node.dicom.volume import Slice, to_hu
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
    before = [read_instance(path) for path in sources]
    after = [_derived_of(source, folder, derivation) for source in before]
    pairs = list(zip(_views(before), _views(after), strict=True))
    if choice.noise_map:
        yield from _noise_maps(pairs, derivation, started)
    if choice.report:
        measurements = measured_series(_measured(pairs), len(pairs))
        yield report(before, after, measurements, derivation, started)


def _noise_maps(
    pairs: Sequence[tuple[Instance, Instance]], derivation: Derivation, started: datetime
) -> Iterator[Instance]:
    groups = map_groups([source for source, _ in pairs])
    for number, group in enumerate(groups, start=1):
        removed = np.stack([_hu(pairs[index][0]) - _hu(pairs[index][1]) for index in group])
        yield noise_map([pairs[index][0] for index in group], removed, derivation, started, number)


def _measured(pairs: Sequence[tuple[Instance, Instance]]) -> Iterator[SliceMeasurements]:
    count = min(len(pairs), MOST_MEASURED)
    for index in np.linspace(0, len(pairs) - 1, count).round().astype(int):
        source, derived = pairs[index]
        yield measured_slice(_hu(source), _hu(derived))


def _derived_of(source: Instance, folder: Path, derivation: Derivation) -> Instance:
    series_uid = derived_uid(str(source.SeriesInstanceUID), derivation, SERIES)
    sop_uid = instance_uid(str(source.SeriesInstanceUID), str(source.SOPInstanceUID), derivation)
    path = folder / series_uid / f"{sop_uid}.dcm"
    if not path.is_file():
        raise QuarantineSeriesError("a derived instance is missing, so nothing can be told of the series")
    return read_instance(path)


def _views(instances: Sequence[Instance]) -> list[Instance]:
    return [view for instance in instances for view in frames(instance)]


def _hu(view: Instance) -> Slice:
    """Read the pixels without keeping them in the view, as a data set would; a frame of many reads anew by itself."""
    return to_hu(view if frame_number(view) else read_with_pixels(Path(str(view.filename))))
