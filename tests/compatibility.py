"""Kinds of CT series that are odd but real, each with what the node does: docs/compatibility.md, and its test.

Run as ``python tests/compatibility.py > docs/compatibility.md``.
"""

import sys
from typing import Any

import numpy as np
from factories import ROOT, ct_dataset, ct_series
from kinds import Kind, body, cells, files, implicit, rle, series, with_last, with_one
from kinds_of_content import CONTENT
from kinds_of_streams import STREAMS

HEAD = """# Compatibility

What the node does with odd but real CT series, the same in the node, with `iscl-node denoise` and with
`iscl-node check --explain`. Each line is a case of `tests/test_compatibility.py`, which fails when this page is not
what it proves. The page is generated:

```
python tests/compatibility.py > docs/compatibility.md
```

**derived**: the slices become a derived series · **left out**: not processed with the others, counted and noted ·
**ignored**: nothing is made, no action is needed · **quarantine**: a person decides · **refused**: the sender gets a
failure, a folder's file is skipped with the reason.
"""


def longer() -> list[bytes]:
    found = ct_series(3)
    for each in found:
        each.PixelData += bytes(512)
    return files(*found)


def two_series() -> list[bytes]:
    return [*series(), *series(SeriesInstanceUID=f"{ROOT}.22")]


def flipped() -> list[bytes]:
    other = ct_dataset(SOPInstanceUID=f"{ROOT}.3.1", InstanceNumber=1, ImagePositionPatient=[-32, -32, 1])
    return [*series(), *files(other)]


def air(stored: Any) -> Any:
    return np.random.default_rng(0).normal(24, 15, stored.shape)


TWELVE = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}
SCREEN = {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"], "ImagePositionPatient": None, "KVP": None}
SCOUT = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}

KINDS = (
    Kind(
        "patients",
        "two patients under one Series UID",
        "quarantine",
        0,
        "2 patients",
        lambda: with_last(PatientID="P2"),
    ),
    Kind(
        "frames_of_reference",
        "two frames of reference",
        "quarantine",
        0,
        "2 frames of reference",
        lambda: with_last(FrameOfReferenceUID="1.2.3"),
    ),
    Kind(
        "less_said",
        "a birth date in some slices only",
        "derived",
        3,
        "",
        lambda: with_last(PatientBirthDate="19500102"),
    ),
    Kind("scout_beside", "a scout under the UID of the slices", "derived", 3, "localizer", lambda: with_one(**SCOUT)),
    Kind("scout", "a scout alone", "ignored", 0, "localizer", lambda: series(**SCOUT)),
    Kind(
        "screen_beside",
        "a screenshot under the UID of the slices",
        "derived",
        3,
        "left out",
        lambda: with_one(**SCREEN),
    ),
    Kind("screen", "screenshots alone", "ignored", 0, "screen", lambda: series(**SCREEN)),
    Kind(
        "perfusion",
        "a perfusion map stored as CT Image",
        "quarantine",
        0,
        "perfusion",
        lambda: series(ImageType=["DERIVED", "SECONDARY", "AXIAL", "CBF"]),
    ),
    Kind("units", "an attenuation map with Units", "quarantine", 0, "Units", lambda: series(Units="1CM")),
    Kind(
        "intercept", "the Rescale Intercept was lost", "quarantine", 0, "intercept", lambda: series(RescaleIntercept=0)
    ),
    Kind("air", "nothing but air", "ignored", 0, "window", lambda: cells(air)),
    Kind("slope", "Rescale Slope 0", "quarantine", 0, "slope 0", lambda: series(RescaleSlope=0)),
    Kind("monochrome1", "MONOCHROME1", "derived", 3, "", lambda: series(PhotometricInterpretation="MONOCHROME1")),
    Kind(
        "stray_bits",
        "stray bits beyond Bits Stored",
        "derived",
        3,
        "",
        lambda: cells(lambda s: np.maximum(s, 0) | (np.arange(64) % 16 << 12), **TWELVE),
    ),
    Kind(
        "metal",
        "values that run on beyond Bits Stored",
        "quarantine",
        0,
        "bits stored",
        lambda: cells(lambda s: np.maximum(s, 6000 - 150 * np.abs(np.arange(64) - 32)), **TWELVE),
    ),
    Kind("longer", "Pixel Data is padded", "derived", 3, "", longer),
    Kind(
        "bare",
        "no preamble and no file meta information",
        "derived",
        3,
        "",
        lambda: [body(implicit(each)) for each in ct_series(3)],
    ),
    Kind("zeros", "zeros behind the data set", "derived", 3, "", lambda: [each + bytes(700) for each in series()]),
    Kind("copies", "identical copies in a folder", "derived", 3, "identical copy", lambda: [*series(), series()[0]]),
    Kind(
        "encodings",
        "copies in another transfer syntax",
        "derived",
        3,
        "identical copy",
        lambda: [*series(), rle(ct_series(1)[0]), implicit(ct_series(2)[1])],
    ),
    Kind("conflict", "two images of one SOP Instance UID", "quarantine", 0, "Pixel Data", flipped),
    Kind("two_series", "a series copied with its SOP Instance UIDs", "derived", 6, "", two_series),
    Kind(
        "short",
        "Pixel Data of one slice is too short",
        "derived",
        2,
        "Pixel Data has",
        lambda: [*series()[1:], *files(ct_dataset(Rows=65))],
    ),
    Kind(
        "no_pixels",
        "Pixel Data is missing",
        "refused",
        0,
        "Pixel Data",
        lambda: files(*map(without_pixels, ct_series(2))),
    ),
    Kind(
        "matrix",
        "one slice of another matrix",
        "derived",
        3,
        "",
        lambda: [*series()[1:], *files(ct_dataset(np.zeros((32, 32), np.int16)))],
    ),
    *CONTENT,
    *STREAMS,
)


def without_pixels(dataset: Any) -> Any:
    del dataset.PixelData
    return dataset


def page() -> str:
    """The text of docs/compatibility.md."""
    lines = [HEAD, "| kind of series | what the node does | case |", "|---|---|---|"]
    for kind in KINDS:
        says = f', says "{kind.says}"' if kind.says else ""
        made = f" ({kind.derived} instances)" if kind.derived else ""
        test = f"[`test_compatibility[{kind.name}]`](../tests/test_compatibility.py)"
        lines.append(f"| {kind.what} | **{kind.outcome}**{made}{says} | {test} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
