"""Derived instances in the transfer syntax that was asked for, and the same pixels in every one of them."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from compression import DCMTK, by_dcmtk, compressed
from factories import ct_dataset, file_meta_of, soft_tissue
from multiframe import enhanced_ct
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from iscl_node.dicom.deriving import transcoding
from iscl_node.dicom.deriving.derived import encode
from iscl_node.dicom.deriving.transcoding import as_asked, native
from iscl_node.dicom.reading.codec import ENCODERS
from iscl_node.dicom.reading.volume import stored_values
from iscl_node.errors import QuarantineSeriesError


def with_syntax(syntax: str) -> FileDataset:
    dataset = ct_dataset()
    dataset.file_meta = file_meta_of(dataset, syntax)
    return dataset


def written(dataset: FileDataset) -> FileDataset:
    return dcmread(BytesIO(encode(dataset)))


@pytest.mark.parametrize("syntax", ENCODERS)
def test_source_syntax_keeps_pixels_and_attributes(syntax: str) -> None:
    derived = ct_dataset(soft_tissue(seed=1))
    file = written(as_asked(derived, with_syntax(syntax), "source"))
    assert file.file_meta.TransferSyntaxUID == syntax
    assert file["PixelData"].VR == "OB"
    assert (stored_values(file) == stored_values(derived)).all()
    del file.PixelData
    del derived.PixelData
    assert file == derived


def test_the_derived_instance_given_is_not_changed() -> None:
    derived = ct_dataset()
    before = encode(derived)
    as_asked(derived, with_syntax(RLELossless), "source")
    assert encode(derived) == before


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSNearLossless, ExplicitVRBigEndian])
def test_explicit_is_explicit_whatever_the_source(syntax: str) -> None:
    derived = ct_dataset()
    assert as_asked(derived, with_syntax(syntax), "explicit") is derived


@pytest.mark.parametrize("syntax", [JPEGLSNearLossless, ExplicitVRBigEndian])
def test_source_without_a_lossless_codec_gives_explicit(syntax: str) -> None:
    derived = ct_dataset()
    assert as_asked(derived, with_syntax(syntax), "source") is derived


def test_codec_that_fails_gives_explicit(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> bytes:
        raise QuarantineSeriesError("crashed")

    monkeypatch.setattr(transcoding, "encoded", failing)
    derived = ct_dataset()
    assert as_asked(derived, with_syntax(RLELossless), "source") is derived


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_native_has_the_same_pixels_and_attributes(syntax: str, tmp_path: Path) -> None:
    dataset = ct_dataset(soft_tissue(seed=2), SmallestImagePixelValue=-3)
    dataset["SmallestImagePixelValue"].VR = "SS"
    path = tmp_path / "compressed.dcm"
    compressed(dataset, syntax).save_as(path)
    file = written(native(path))
    assert file.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert file["PixelData"].VR == "OW"
    assert (file.pixel_array == soft_tissue(seed=2)).all()
    assert file.SOPInstanceUID == dataset.SOPInstanceUID


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, RLELossless])
def test_dcmtk_reads_what_is_written(syntax: str, tmp_path: Path) -> None:
    decoder = {JPEGLSLossless: "dcmdjpls", RLELossless: "dcmdrle"}.get(syntax, "dcmdjpeg")
    derived = ct_dataset(soft_tissue(seed=3))
    ours = as_asked(derived, with_syntax(syntax), "source")
    assert (by_dcmtk(ours, tmp_path, decoder).pixel_array == soft_tissue(seed=3)).all()


@pytest.mark.parametrize("syntax", DCMTK)
def test_what_dcmtk_compressed_is_read(syntax: str, tmp_path: Path) -> None:
    file = by_dcmtk(ct_dataset(), tmp_path, *DCMTK[syntax])
    assert file.file_meta.TransferSyntaxUID == syntax
    assert (stored_values(file) == soft_tissue()).all()


def test_compressed_result_conforms(tmp_path: Path, complaints: Callable[[bytes], Any]) -> None:
    derived = ct_dataset()
    more = complaints(encode(as_asked(derived, with_syntax(JPEGLSLossless), "source"))) - complaints(encode(derived))
    assert not more


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless])
def test_frames_are_compressed_one_by_one_and_come_back(syntax: str, tmp_path: Path) -> None:
    derived = enhanced_ct(3)
    ours = as_asked(derived, with_syntax(syntax), "source")
    path = tmp_path / "compressed.dcm"
    path.write_bytes(encode(ours))
    assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert (dcmread(path).pixel_array == derived.pixel_array).all()
    assert native(path).PixelData == derived.PixelData
