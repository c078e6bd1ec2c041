"""What goes beside a derived series, the same in the node and on the command line: noise maps and the report.

Both are made of the pixels as they are written, source and derived, as they were read back to be judged.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np

from iscl_node.dicom.evidence.measurements import measured_series
from iscl_node.dicom.evidence.noise_map import map_groups, noise_map
from iscl_node.dicom.evidence.removed_noise import removed_noise
from iscl_node.dicom.evidence.report import report
from iscl_node.dicom.reading.folder import Instance
from iscl_node.dicom.reading.frames import is_multiframe
from iscl_node.domain import NO_EVIDENCE, Derivation, EvidenceChoice
from iscl_node.making.read_back import DerivedSeries, Pair, measured_numbers


def evidence(series: DerivedSeries, started: datetime, choice: EvidenceChoice) -> Iterator[Instance]:
    """Make the objects that go beside a derived series.

    Parameters
    ----------
    series : DerivedSeries
        As it was read back for this choice.
    started : datetime
        When work on the derived series started.
    choice : EvidenceChoice
        What is made.

    Raises
    ------
    QuarantineSeriesError
        If pixels cannot be read.
    """
    if choice == NO_EVIDENCE:
        return
    slices = [each for pair in series.pairs for each in pair.slices()]
    if choice.noise_map == "ct" and not any(is_multiframe(pair.source) for pair in series.pairs):
        for pair in series.pairs:
            yield removed_noise(pair.source, pair.derived, pair.taken_removed_hu(), series.derivation, started)
    elif choice.noise_map:
        yield from _noise_maps(slices, series.derivation, started)
    if choice.report:
        numbers = measured_numbers(len(slices))
        measured = measured_series((slices[number].measured() for number in numbers), len(slices))
        sources, derived = [each.source for each in series.pairs], [each.derived for each in series.pairs]
        yield report(sources, derived, measured, series.derivation, started)


def _noise_maps(slices: Sequence[Pair], derivation: Derivation, started: datetime) -> Iterator[Instance]:
    sources = [each.source for each in slices]
    for number, group in enumerate(map_groups(sources), start=1):
        removed = np.empty((len(group), int(sources[group[0]].Rows), int(sources[group[0]].Columns)), np.float32)
        for row, index in enumerate(group):
            removed[row] = slices[index].taken_removed_hu()
        yield noise_map([sources[index] for index in group], removed, derivation, started, number)
