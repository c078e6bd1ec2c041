"""A header that is kept is that of the file: whoever reads it sees what whoever reads the file sees."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from compression import compressed
from factories import ct_dataset, part10, soft_tissue
from multiframe import enhanced_ct
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from iscl_node.dicom.reading import kept_header as module
from iscl_node.dicom.reading.folder import read_instance
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.identity import read_identity
from iscl_node.dicom.reading.kept_header import kept_header
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.errors import QuarantineSeriesError

SIDE = 128
"""Of the images: pixels of more than 16 KB are not read with the header."""


def large(**overrides: object) -> FileDataset:
    return ct_dataset(soft_tissue(side=SIDE), **overrides)


def in_syntax(syntax: str) -> bytes:
    dataset = large()
    stream = BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    is_little = syntax != ExplicitVRBigEndian
    if not is_little:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


MADE: dict[str, Callable[[], bytes]] = {
    "explicit": lambda: part10(large()),
    "implicit": lambda: in_syntax(ImplicitVRLittleEndian),
    "big endian": lambda: in_syntax(ExplicitVRBigEndian),
    "compressed": lambda: part10(compressed(large(), RLELossless)),
    "small pixels": lambda: part10(ct_dataset()),
    "many frames": lambda: part10(enhanced_ct(3)),
    "something behind the pixels": lambda: part10(large(DataSetTrailingPadding=b"\0\0")),
    "a long private value": lambda: part10(with_private_value(large())),
}


def with_private_value(dataset: FileDataset) -> FileDataset:
    dataset.private_block(0x0099, "ISCL", create=True).add_new(1, "OB", bytes(20_000))
    return dataset


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_a_kept_header_is_that_of_the_file(tmp_path: Path, made: Callable[[], bytes]) -> None:
    content = made()
    path = tmp_path / "1.2.3.dcm"
    path.write_bytes(content)
    kept = kept_header(BytesIO(content))
    assert kept is not None
    from_file, from_memory = read_instance(path), kept.instance(path)
    assert read_identity(BytesIO(kept.start)) == read_identity(BytesIO(content))
    assert from_memory.filename == from_file.filename
    assert from_memory.original_encoding == from_file.original_encoding
    assert from_memory.file_meta == from_file.file_meta
    for one, other in zip(frames(from_memory), frames(from_file), strict=True):
        assert (to_hu(one) == to_hu(other)).all()
    assert without_pixels(from_memory) == without_pixels(from_file)
    assert from_memory.PixelData == from_file.PixelData


def without_pixels(dataset: Dataset) -> Dataset:
    left = Dataset({tag: dataset[tag] for tag in dataset.keys() if tag != 0x7FE00010})  # noqa: SIM118 - tags
    assert len(left) > 20
    return left


def test_of_a_large_image_only_the_header_is_kept() -> None:
    content = part10(large())
    kept = kept_header(BytesIO(content))
    assert kept is not None
    assert len(kept.start) < len(content) - 2 * SIDE * SIDE + 1


def test_what_is_deflated_or_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept_header(BytesIO(in_syntax(DeflatedExplicitVRLittleEndian))) is None
    monkeypatch.setattr(module, "MOST_BYTES", 500)
    assert kept_header(BytesIO(part10(large()))) is None


def test_a_kept_header_that_is_not_legible_is_quarantined(tmp_path: Path) -> None:
    dataset = large()
    del dataset.SOPClassUID
    path = tmp_path / "1.2.3.dcm"
    dataset.save_as(path)
    kept = kept_header(BytesIO(path.read_bytes()))
    assert kept is not None
    with pytest.raises(QuarantineSeriesError, match="no SOP Class UID"):
        kept.instance(path)
