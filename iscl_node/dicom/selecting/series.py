"""May the instances of a series be processed, and in which order do they lie?"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from iscl_node.dicom.reading.frames import frames, is_multiframe
from iscl_node.dicom.reading.repetition import without_copies
from iscl_node.dicom.reading.values import number, numbers
from iscl_node.dicom.reading.volume import BITS_ALLOCATED
from iscl_node.dicom.selecting.consistency import check_one_series
from iscl_node.dicom.selecting.eligibility import REQUIREMENTS, Consequence, fault_of, named
from iscl_node.errors import IgnoreSeriesError, QuarantineSeriesError

MOST_PIXEL_BYTES: Final = 2 << 30
"""Of one instance, decompressed: 4000 frames of 512 x 512. A few megabytes can hold more frames than fit any memory,
and the derived instance takes three times this."""

MOST_FRAME_PIXELS: Final = 2048 * 2048
"""Of one frame: the largest CT. The model takes 0.45 GB for a million pixels, so a small compressed file of many more
would end the node, again and again."""


@dataclass(frozen=True)
class LeftOut:
    """Instances that are none of the slices of their series, and why: ``it is a localizer``."""

    reason: str
    instances: tuple[Dataset, ...]


@dataclass(frozen=True)
class Selection:
    """The slices of a series in their order, and what else came with it."""

    instances: tuple[Dataset, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, in words."""
        count = len(self.instances) + sum(len(each.instances) for each in self.left_out)
        return tuple(f"left out {len(each.instances)} of {count} instances: {each.reason}" for each in self.left_out)


def parted(instances: Sequence[Dataset]) -> Selection:
    """Part the slices of a series, in the order given, from what only came with them.

    Raises
    ------
    QuarantineSeriesError
        As ``frames.frames``, or for a size that cannot be.
    """
    _check_size(instances)
    slices: list[Dataset] = []
    others: defaultdict[str, list[Dataset]] = defaultdict(list)
    for instance in instances:
        fault = fault_of(instance)
        if fault is None or fault.otherwise is Consequence.QUARANTINE:
            slices.append(instance)
        else:
            others[f"it {named(fault, [instance])}"].append(instance)
    return Selection(tuple(slices), tuple(LeftOut(reason, tuple(each)) for reason, each in others.items()))


def select_series(datasets: Iterable[Dataset], earlier: Sequence[Dataset] = ()) -> Selection:
    """Check that the instances are one CT series that may be processed, and put its slices in order.

    Parameters
    ----------
    datasets : iterable of Dataset
        The instances of one series, in any order; their pixels are looked at only if a SOP Instance UID comes twice.
    earlier : sequence of Dataset
        Instances that were processed as this series before; they are of the same patient and study, or all is refused.

    Returns
    -------
    Selection
        By position along the slice normal, or by Instance Number where a position is missing.

    Raises
    ------
    IgnoreSeriesError
        If nothing is a slice, and no action is needed.
    QuarantineSeriesError
        Naming the first rule that is broken and by how many instances.
    """
    instances = tuple(datasets)
    if not instances:
        raise QuarantineSeriesError("the series has no instances")
    selection = parted(instances)
    if not selection.instances:
        raise _nothing_left(selection)
    if any(map(fault_of, selection.instances)):
        raise _faulty(selection.instances)
    check_one_series([*earlier, *selection.instances])
    single, copies = without_copies(selection.instances)
    if copies:
        selection = replace(selection, left_out=(*selection.left_out, LeftOut("it is an identical copy", copies)))
    return replace(selection, instances=_ordered(single))


def _check_size(instances: Sequence[Dataset]) -> None:
    for instance in instances:
        sides = [number(instance, keyword) or 1 for keyword in ("Rows", "Columns", "NumberOfFrames")]
        if math.prod(sides) * BITS_ALLOCATED // 8 > MOST_PIXEL_BYTES:
            raise QuarantineSeriesError(
                f"an image has more than {MOST_PIXEL_BYTES >> 30} GiB of pixels when decompressed"
            )
        if math.prod(sides[:2]) > MOST_FRAME_PIXELS:
            raise QuarantineSeriesError(f"an image of {sides[0]:g} x {sides[1]:g} pixels is larger than any CT")


def _nothing_left(selection: Selection) -> IgnoreSeriesError | QuarantineSeriesError:
    """What becomes of a series without slices: it waits for a person if any of it should have been in HU."""
    faults = [fault for each in selection.left_out for instance in each.instances if (fault := fault_of(instance))]
    kind = IgnoreSeriesError if all(each.otherwise is Consequence.IGNORED for each in faults) else QuarantineSeriesError
    told = [f"{len(each.instances)} of {len(faults)} instances: {each.reason}" for each in selection.left_out]
    return kind("; ".join(told))


def _faulty(instances: Sequence[Dataset]) -> QuarantineSeriesError:
    """The first requirement that is not fulfilled, and how often."""
    views = [view for instance in instances for view in frames(instance)]
    noun = "frames" if any(map(is_multiframe, instances)) else "instances"
    counts = ((fault, sum(not fault.is_fulfilled(view) for view in views)) for fault in REQUIREMENTS)
    fault, count = next(each for each in counts if each[1])
    return QuarantineSeriesError(f"{count} of {len(views)} {noun}: it {fault.fault}")


def _ordered(instances: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    positions = _positions_mm(instances)
    counted = [number(instance, "InstanceNumber") or 0.0 for instance in instances]
    first = counted if positions is None else positions
    keys = [(first[i], counted[i], str(instance.SOPInstanceUID)) for i, instance in enumerate(instances)]
    return tuple(instances[i] for i in sorted(range(len(instances)), key=keys.__getitem__))


def _positions_mm(instances: Sequence[Dataset]) -> list[float] | None:
    """Return each slice's position along the first one's normal (PS3.3 C.7.6.2.1.1), or None if one is unknown."""
    orientation = numbers(instances[0], "ImageOrientationPatient", 6)
    corners = [numbers(instance, "ImagePositionPatient", 3) for instance in instances]
    if orientation is None or any(corner is None for corner in corners):
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    return [float(np.dot(normal, corner)) for corner in corners if corner is not None]
