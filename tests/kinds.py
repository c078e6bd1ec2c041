"""What the kinds of odd but real CT series are made of; see ``compatibility``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from factories import ROOT, ct_dataset, ct_series, file_meta_of, part10
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RLELossless


@dataclass(frozen=True)
class Kind:
    """A kind of series; ``derived`` instances are made, and ``says`` stands in the reason or the note."""

    name: str
    what: str
    outcome: str
    derived: int
    says: str
    make: Callable[[], list[bytes]]


def derived(name: str, what: str, make: Callable[[], list[bytes]], count: int = 3, says: str = "") -> Kind:
    """A kind of which ``count`` derived instances are made."""
    return Kind(name, what, "derived", count, says, make)


def stopped(name: str, what: str, make: Callable[[], list[bytes]], says: str, outcome: str = "quarantine") -> Kind:
    """A kind of which nothing is made."""
    return Kind(name, what, outcome, 0, says, make)


def files(*datasets: Dataset) -> list[bytes]:
    return [part10(each) for each in datasets]


def series(**overrides: Any) -> list[bytes]:
    return files(*ct_series(3, **overrides))


def with_one(**overrides: Any) -> list[bytes]:
    """Three good slices, and one more instance of the series."""
    return files(*ct_series(3), ct_dataset(**{"SOPInstanceUID": f"{ROOT}.3.99", "InstanceNumber": 99} | overrides))


def with_last(**overrides: Any) -> list[bytes]:
    """Three slices, of which the last one differs."""
    *first, last = ct_series(3)
    for keyword, value in overrides.items():
        setattr(last, keyword, value)
    return files(*first, last)


def cells(change: Callable[[Any], Any], **overrides: Any) -> list[bytes]:
    """Three slices of which the stored values are changed."""
    found = ct_series(3, **overrides)
    for each in found:
        stored = np.frombuffer(each.PixelData, "<i2").astype(int).reshape(64, 64)
        each.PixelData = (np.asarray(change(stored)).astype(int) & 0xFFFF).astype("<u2").tobytes()
    return files(*found)


def body(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


def implicit(dataset: Dataset) -> bytes:
    dataset.file_meta = file_meta_of(dataset, ImplicitVRLittleEndian)
    return part10(dataset)


def rle(dataset: Any) -> bytes:
    dataset.compress(RLELossless, generate_instance_uid=False)
    return part10(dataset)


def each_slice(change: Callable[[Any], object], count: int = 3, **overrides: Any) -> list[bytes]:
    """A series of which every slice is changed."""
    found = ct_series(count, **overrides)
    for dataset in found:
        change(dataset)
    return files(*found)


def raw(dataset: Dataset, keyword: str | int, value: bytes, vr: str) -> None:
    """Put an element of these very bytes, which must be of even length."""
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def written(**values: tuple[bytes, str]) -> list[bytes]:
    """A series whose attributes are written in these very bytes, under this value representation."""

    def change(dataset: Dataset) -> None:
        for keyword, (value, vr) in values.items():
            raw(dataset, keyword, value, vr)

    return each_slice(change)
