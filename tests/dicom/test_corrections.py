"""What is written otherwise than it is meant is read as it is meant."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from factories import ct_dataset, file_meta_of, part10
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from iscl_node.dicom.reading.folder import FolderContent, read_folder, read_instance, read_with_pixels
from iscl_node.dicom.reading.header import read_header
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.dicom.selecting.series import select_series
from iscl_node.errors import RejectInstanceError


def written(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    dataset.file_meta = file_meta_of(dataset, syntax)
    dataset.set_original_encoding(None, None)
    return part10(dataset)


def body_of(content: bytes) -> bytes:
    """The data set without preamble and file meta information."""
    return content[144 + int.from_bytes(content[140:144], "little") :]


def meta_of(content: bytes) -> bytes:
    return content[: len(content) - len(body_of(content))]


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], FolderContent]:
    def read_file(content: bytes) -> FolderContent:
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / "one.dcm").write_bytes(content)
        return read_folder(tmp_path / "in")

    return read_file


EXPLICIT, IMPLICIT = written(ct_dataset()), written(ct_dataset(), ImplicitVRLittleEndian)
OTHER_META = part10(ct_dataset()).replace(b"999.3.1", b"999.3.7", 1)


@pytest.mark.parametrize(
    "content",
    [
        EXPLICIT,
        body_of(IMPLICIT),
        body_of(EXPLICIT),
        EXPLICIT[132:],
        meta_of(IMPLICIT) + body_of(EXPLICIT),
        meta_of(EXPLICIT) + body_of(IMPLICIT),
        OTHER_META,
        EXPLICIT + bytes(1001),
        IMPLICIT + bytes(512),
        IMPLICIT + bytes(3),
    ],
    ids=[
        "as it should be",
        "no preamble, implicit",
        "no preamble, explicit",
        "no preamble, with file meta information",
        "said implicit, is explicit",
        "said explicit, is implicit",
        "file meta information of another instance",
        "zeros behind",
        "zeros behind, implicit",
        "three zeros behind",
    ],
)
@pytest.mark.fault(
    "reception",
    "a file without preamble, with file meta information that is wrong, with zeros behind its end",
    "the data set decides",
)
def test_a_file_is_read_as_it_is_meant(content: bytes, read: Callable[[bytes], FolderContent]) -> None:
    found = read(content)
    assert found.skipped == ()
    ((instance,),) = found.series.values()
    (only,) = select_series([instance]).instances
    np.testing.assert_array_equal(to_hu(only), to_hu(ct_dataset()))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Hello, this is no image", "not a DICOM file"),
        (b"", "not a DICOM file"),
        (b"\x08\x00", "not a DICOM file"),
        (EXPLICIT + bytes(8) + b"more", "broken at byte"),
        (EXPLICIT[:-2], "ends inside an element"),
        (
            EXPLICIT.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0", 1),
            "113619.5.2 is private",
        ),
    ],
)
def test_what_is_none_is_skipped_with_its_reason(
    content: bytes, reason: str, read: Callable[[bytes], FolderContent]
) -> None:
    found = read(content)
    assert found.series == {}
    assert reason in found.skipped[0].reason


@pytest.mark.fault(
    "reception", "Pixel Data goes on behind the image", "the bytes that belong to it are taken (PS3.5 8.1.1)"
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_pixel_data_may_be_padded(syntax: str, read: Callable[[bytes], FolderContent]) -> None:
    longer = ct_dataset()
    longer.PixelData += b"\x7f" * 512
    ((instance,),) = read(written(longer, syntax)).series.values()
    np.testing.assert_array_equal(to_hu(instance), to_hu(ct_dataset()))


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (("SamplesPerPixel",), "Samples per Pixel missing"),
        (("BitsAllocated", "Rows"), "Rows and Bits Allocated missing"),
    ],
)
def test_what_pixel_data_needs_is_named(missing: tuple[str, ...], reason: str) -> None:
    with pytest.raises(RejectInstanceError, match=reason):
        read_header(part10(ct_dataset(**dict.fromkeys(missing))))


def test_over_the_network_what_was_negotiated_binds() -> None:
    with pytest.raises(RejectInstanceError, match="not encoded as its transfer syntax"):
        read_header(meta_of(IMPLICIT) + body_of(EXPLICIT))
    with pytest.raises(RejectInstanceError, match="Affected SOPInstanceUID of the request is not that of the data set"):
        read_header(OTHER_META)


def read_back(tmp_path: Path, content: bytes) -> Dataset:
    path = tmp_path / "one.dcm"
    path.write_bytes(content)
    assert read_with_pixels(path)[0x00080018].value == read_instance(path)[0x00080018].value
    return read_with_pixels(path)


def replaced(keyword: str, value: bytes) -> bytes:
    """A file with the bytes of an element replaced."""
    marker = "X" * len(value)
    dataset = ct_dataset(**{keyword: None})
    dataset.add_new(keyword, "LO", marker)
    vr = {"RescaleSlope": b"DS", "RescaleIntercept": b"DS", "RescaleType": b"LO"}.get(keyword, b"CS")
    content = part10(dataset)
    at = content.index(marker.encode())
    return content[: at - 4] + vr + content[at - 2 : at] + value + content[at + len(value) :]


@pytest.mark.parametrize(
    ("keyword", "value", "meant"),
    [
        ("RescaleSlope", b"1,0 ", 1.0),
        ("RescaleSlope", b"1,000 ", 1.0),
        ("RescaleSlope", b" 1  ", 1.0),
        ("RescaleIntercept", b"-1024,0 ", -1024.0),
        ("RescaleIntercept", b"-1024,000 ", -1024.0),
        ("Modality", b" CT ", "CT"),
        ("PhotometricInterpretation", b" MONOCHROME2", "MONOCHROME2"),
        ("ImageType", b"ORIGINAL\\ PRIMARY\\AXIAL ", ["ORIGINAL", "PRIMARY", "AXIAL"]),
        ("RescaleType", b" HU ", "HU"),
    ],
)
def test_a_value_is_read_as_it_is_meant(tmp_path: Path, keyword: str, value: bytes, meant: object) -> None:
    assert read_back(tmp_path, replaced(keyword, value))[keyword].value == meant


def test_a_comma_that_may_part_thousands_is_left(tmp_path: Path) -> None:
    instance = read_back(tmp_path, replaced("RescaleIntercept", b"-1,024"))
    assert instance.get_item("RescaleIntercept").value == b"-1,024"


def test_file_meta_information_in_the_data_set_goes(tmp_path: Path) -> None:
    content = EXPLICIT
    twice = content[144 : len(meta_of(content))]
    at = content.index(b"\x20\x00\x0d\x00")
    instance = read_back(tmp_path, content[:at] + twice + content[at:])
    assert not [tag for tag in instance.keys() if tag.group < 8]  # noqa: SIM118
    assert instance.PatientID == "T1"
