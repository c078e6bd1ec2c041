"""What scanners send, in every combination of syntax, form and geometry: an identity gives back the very pixels.

``make test`` runs each syntax with each signedness and depth, over which rescale, size, tilt and padding take turns,
and each large size once. ``make test-long`` runs the full product.
"""

from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from compression import DCMTK, by_dcmtk, compressed
from factories import ct_dataset, ct_series, file_meta_of, part10
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.encaps import generate_fragmented_frames
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from iscl_node.dicom.deriving.derived import derive, encode
from iscl_node.dicom.deriving.transcoding import as_asked
from iscl_node.dicom.deriving.writing import LOSSY_SYNTAXES
from iscl_node.dicom.reading.codec import ENCODERS
from iscl_node.dicom.reading.folder import read_instance
from iscl_node.dicom.reading.header import read_header
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.dicom.selecting.series import select_series
from iscl_node.domain import Derivation

NATIVE: Final = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
SYNTAXES: Final = (*NATIVE, RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)
BITS: Final = (12, 13, 14, 15, 16)
RESCALES: Final = (("1", "-1024"), ("1", "0"), ("0.5", "-1000"), ("2.000001", "-8192.5"))
SIZES: Final = ((37, 64), (62, 33), (64, 64))
LARGE_SIZES: Final = ((616, 616), (768, 768), (1024, 1024), (513, 511))
TILTS: Final = (0.0, 18.5)
KEPT: Final = (
    *("RescaleSlope", "RescaleIntercept", "BitsStored", "PixelPaddingValue"),
    *("GantryDetectorTilt", "ImageOrientationPatient", "Rows", "Columns"),
)


@dataclass(frozen=True)
class Form:
    """One cell without its syntax."""

    is_signed: bool
    bits: int
    rescale: tuple[str, str]
    size: tuple[int, int]
    tilt_degrees: float
    has_padding: bool


def some_forms() -> list[Form]:
    """Each signedness with each depth; the others change at different rates."""
    return [
        Form(is_signed, bits, RESCALES[i % 4], SIZES[i % 3], TILTS[i // 2 % 2], bool(i // 3 % 2))
        for i, (is_signed, bits) in enumerate(product((False, True), BITS))
    ]


def all_forms() -> list[Form]:
    return [Form(*values) for values in product((False, True), BITS, RESCALES, SIZES, TILTS, (False, True))]


def image(form: Form) -> npt.NDArray[Any]:
    """Noise over a ramp through all values that the bits allow, both ends included."""
    smallest = -(1 << (form.bits - 1)) if form.is_signed else 0
    largest = smallest + (1 << form.bits) - 1
    ramp = np.linspace(smallest, largest, form.size[0] * form.size[1])
    noisy = ramp + np.random.default_rng(form.bits).normal(0, 30, ramp.size)
    noisy[0], noisy[-1] = smallest, largest
    pixels = np.clip(noisy, smallest, largest).astype("<i2" if form.is_signed else "<u2").reshape(form.size)
    pixels[:2, :3] = smallest
    return pixels


def source(form: Form, pixels: npt.NDArray[Any]) -> FileDataset:
    """An instance of this form; with padding, what is stored as the smallest value lies outside the image."""
    slope, intercept = form.rescale
    angle = np.radians(form.tilt_degrees)
    dataset = ct_dataset(
        pixels,
        BitsStored=form.bits,
        HighBit=form.bits - 1,
        PixelRepresentation=int(form.is_signed),
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        GantryDetectorTilt=form.tilt_degrees,
        ImageOrientationPatient=[1, 0, 0, 0, round(float(np.cos(angle)), 8), round(float(np.sin(angle)), 8)],
    )
    if form.has_padding:
        dataset.add_new("PixelPaddingValue", "SS" if form.is_signed else "US", int(pixels.min()))
    return dataset


def sent(dataset: FileDataset, syntax: str, folder: Path) -> bytes:
    """The instance as a sender encodes it: DCMTK where it can, otherwise pydicom."""
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        return part10(by_dcmtk(dataset, folder, *DCMTK[syntax]))
    if syntax not in NATIVE:
        return part10(compressed(dataset, syntax))
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = dataset.pixel_array.byteswap().tobytes()
    dataset.file_meta = file_meta_of(dataset, syntax)
    return part10(dataset)


def check(form: Form, syntax: str, derivation: Derivation, folder: Path) -> None:
    """Take the way of an instance through the node, and back from the file that it writes."""
    pixels = image(form)
    part10_sent = sent(source(form, pixels), syntax, folder)
    assert read_header(part10_sent).transfer_syntax_uid == syntax
    path = folder / "received.dcm"
    path.write_bytes(part10_sent)
    (received,) = select_series([read_instance(path)]).instances
    derived = derive(received, to_hu(received), derivation, datetime(2024, 1, 1), datetime(2024, 1, 1))
    for asked, written in (("explicit", ExplicitVRLittleEndian), ("source", syntax)):
        file = dcmread(BytesIO(encode(as_asked(derived, received, asked))))
        assert file.file_meta.TransferSyntaxUID == (written if written in ENCODERS else ExplicitVRLittleEndian)
        np.testing.assert_array_equal(file.pixel_array, pixels)
        assert [file.get(keyword) for keyword in KEPT] == [received.get(keyword) for keyword in KEPT]


@pytest.mark.parametrize("form", some_forms(), ids=str)
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_some_cells(syntax: str, form: Form, derivation: Derivation, tmp_path: Path) -> None:
    check(form, syntax, derivation, tmp_path)


@pytest.mark.parametrize("size", LARGE_SIZES)
def test_large_sizes(size: tuple[int, int], derivation: Derivation, tmp_path: Path) -> None:
    check(Form(True, 16, RESCALES[0], size, 0.0, True), JPEGLSLossless, derivation, tmp_path)


@pytest.mark.parametrize(
    "geometry",
    [
        {"PatientPosition": "HFDL"},
        {"PatientPosition": "FFDR", "ImageOrientationPatient": [0, -1, 0, 1, 0, 0]},
        {"PatientPosition": "FFS", "ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]},
        {"PatientPosition": "HFP", "ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]},
        {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},  # coronal
        {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},  # sagittal
        {"ImageOrientationPatient": [0.9, 0.43588989, 0, 0, 0, -1], "PixelSpacing": [1.25, 0.7]},  # oblique
        {"ImagePositionPatient": None, "ImageOrientationPatient": None},
    ],
    ids=str,
)
def test_geometry_is_kept(geometry: dict[str, Any], derivation: Derivation) -> None:
    dataset = ct_dataset(SliceLocation="-12.5", SpacingBetweenSlices="3", TableHeight="150", **geometry)
    (received,) = select_series([dcmread(BytesIO(part10(dataset)))]).instances
    derived = derive(received, to_hu(received), derivation, datetime(2024, 1, 1), datetime(2024, 1, 1))
    file = dcmread(BytesIO(encode(derived)))
    np.testing.assert_array_equal(file.pixel_array, dataset.pixel_array)
    kept = ("PatientPosition", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceLocation")
    for keyword in (*kept, "SliceThickness", "SpacingBetweenSlices", "TableHeight", "FrameOfReferenceUID"):
        assert file.get(keyword) == dataset.get(keyword)


def test_each_slice_keeps_its_own_rescale(derivation: Derivation) -> None:
    series = ct_series(3)
    for number, instance in enumerate(series):
        instance.RescaleSlope, instance.RescaleIntercept = 1 + number / 2, -1024 - 100 * number
    for received in select_series(series).instances:
        derived = derive(received, to_hu(received), derivation, datetime(2024, 1, 1), datetime(2024, 1, 1))
        assert (derived.RescaleSlope, derived.RescaleIntercept) == (received.RescaleSlope, received.RescaleIntercept)
        np.testing.assert_array_equal(derived.pixel_array, received.pixel_array)


def test_lossy_jpeg_extended_is_what_dcmtk_decodes(derivation: Derivation, tmp_path: Path) -> None:
    form = Form(False, 12, RESCALES[0], (61, 64), 0.0, False)
    lossy = by_dcmtk(source(form, image(form)), tmp_path, "dcmcjpeg", "+ee", "+q", "90")
    assert lossy.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    check_lossy(lossy, by_dcmtk(lossy, tmp_path, "dcmdjpeg"), derivation)


def test_lossy_jpeg_ls_is_what_dcmtk_decodes(derivation: Derivation, tmp_path: Path) -> None:
    form = Form(False, 12, RESCALES[0], (61, 64), 0.0, False)
    lossy = by_dcmtk(source(form, image(form)), tmp_path, "dcmcjpls", "+en", "+md", "3")
    assert lossy.file_meta.TransferSyntaxUID == JPEGLSNearLossless
    check_lossy(lossy, by_dcmtk(lossy, tmp_path, "dcmdjpls"), derivation)


@pytest.mark.parametrize("is_signed", [False, True])
def test_lossy_jpeg_2000(is_signed: bool, derivation: Derivation) -> None:
    form = Form(is_signed, 12, RESCALES[0], (61, 64), 0.0, False)
    lossy = compressed(source(form, image(form)), JPEG2000, j2k_cr=[4])
    decoded = deepcopy(lossy)
    decoded.decompress(decoding_plugin="gdcm", generate_instance_uid=False)
    check_lossy(lossy, decoded, derivation)


def check_lossy(lossy: FileDataset, expected: FileDataset, derivation: Derivation) -> None:
    """The derived pixels are those that another decoder finds; the loss is told, and none is added."""
    pixels = expected.pixel_array
    derived = derive(lossy, to_hu(lossy), derivation, datetime(2024, 1, 1), datetime(2024, 1, 1))
    file = dcmread(BytesIO(encode(as_asked(derived, lossy, "source"))))
    assert file.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    np.testing.assert_array_equal(file.pixel_array, pixels)
    assert file.LossyImageCompression == "01"
    assert file.LossyImageCompressionMethod == LOSSY_SYNTAXES[lossy.file_meta.TransferSyntaxUID]
    fragments = b"".join(each for frame in generate_fragmented_frames(lossy.PixelData) for each in frame)
    told = float(lossy.get("LossyImageCompressionRatio") or pixels.size * 2 / len(fragments))
    assert float(file.LossyImageCompressionRatio) == pytest.approx(told, rel=0.02)
    assert len(np.unique(pixels)) > 100


@pytest.mark.long
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_every_cell(syntax: str, derivation: Derivation, tmp_path: Path) -> None:
    for form in all_forms():
        check(form, syntax, derivation, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("size", LARGE_SIZES)
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_large_sizes_in_every_syntax(
    syntax: str, size: tuple[int, int], derivation: Derivation, tmp_path: Path
) -> None:
    for is_signed in (False, True):
        check(Form(is_signed, 12, RESCALES[0], size, 18.5, False), syntax, derivation, tmp_path)
