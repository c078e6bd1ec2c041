"""Source series by the thousand: a few templates, whose UIDs are exchanged byte for byte."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from factories import ROOT, ct_dataset, part10, soft_tissue

_SIDE = 32
_TEMPLATE_NUMBER = 900_000
_FIRST_NUMBER = 100_000
_LENGTHS = (10, 60)
_TWO_STRENGTHS_EVERY = 10
"""One series of so many comes under the rule that has two strengths."""
_SHUFFLED_EVERY = 4
"""One series of so many is sent in any order, so that it has gaps when its client or the node is killed."""


@dataclass(frozen=True)
class Source:
    """One series that a client has to send.

    Parameters
    ----------
    number : int
        Of six digits; all UIDs contain it.
    count : int
        How many instances it has.
    has_two_strengths : bool
        Whether the node is to make two derived series of it.
    is_shuffled : bool
        Whether its instances are sent in any order.
    """

    number: int
    count: int
    has_two_strengths: bool
    is_shuffled: bool = False

    @property
    def study_uid(self) -> str:
        """The Study Instance UID."""
        return f"{ROOT}.7.{self.number}.1"

    @property
    def series_uid(self) -> str:
        """The Series Instance UID."""
        return f"{ROOT}.7.{self.number}.2"

    def sop_uid(self, instance: int) -> str:
        """The SOP Instance UID of the instance with this number; the first has 1."""
        return f"{ROOT}.7.{self.number}.3.{instance}"

    def sop_uids(self) -> list[str]:
        """The SOP Instance UIDs of all instances, in their order."""
        return [self.sop_uid(instance) for instance in range(1, self.count + 1)]

    def write(self, folder: Path) -> dict[Path, str]:
        """Write the files; return the SOP Instance UID that each has, in their order."""
        folder.mkdir()
        old, new = b"%d" % _TEMPLATE_NUMBER, b"%d" % self.number
        files = {folder / f"{instance:03}.dcm": self.sop_uid(instance) for instance in range(1, self.count + 1)}
        for instance, path in enumerate(files, start=1):
            path.write_bytes(_template(instance, self.has_two_strengths).replace(old, new))
        return files


def pixels_of(instance: int) -> bytes:
    """The pixel data of the instance with this number in every series."""
    return soft_tissue(seed=instance, side=_SIDE).tobytes()


@cache
def _template(instance: int, has_two_strengths: bool) -> bytes:
    """One instance of the series whose number the others put in the place of this one's, which is as long."""
    series = Source(_TEMPLATE_NUMBER, 0, has_two_strengths)
    return part10(
        ct_dataset(
            np.frombuffer(pixels_of(instance), np.int16).reshape(_SIDE, _SIDE),
            PatientID=f"P{series.number}",
            StudyInstanceUID=series.study_uid,
            SeriesInstanceUID=series.series_uid,
            SOPInstanceUID=series.sop_uid(instance),
            InstanceNumber=instance,
            ImagePositionPatient=[-16.0, -16.0, float(instance)],
            ProtocolName="TWO STRENGTHS" if has_two_strengths else "ROUTINE",
        )
    )


def sources(instances: int, dice: random.Random) -> Iterator[Source]:
    """Series of random lengths that have so many instances in all."""
    number, left = _FIRST_NUMBER, instances
    while left:
        count = min(left, dice.randint(*_LENGTHS))
        yield Source(number, count, number % _TWO_STRENGTHS_EVERY == 0, number % _SHUFFLED_EVERY == 1)
        number, left = number + 1, left - count


def kill_points(sources: Sequence[Source], number: int, dice: random.Random) -> dict[str, str]:
    """Choose series whose client is killed once; by Series Instance UID the SOP Instance UID at which it is."""
    return {source.series_uid: source.sop_uid(dice.randint(1, source.count)) for source in dice.sample(sources, number)}
