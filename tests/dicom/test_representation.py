"""Values under another value representation than the standard's."""

from pathlib import Path

import pytest
from factories import ct_dataset, part10
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from iscl_node.dicom.deriving.inherited import inherited
from iscl_node.dicom.reading.folder import read_folder, read_instance


def with_raw(tmp_path: Path, keyword: str, vr: str, value: bytes) -> Path:
    """A file in which one attribute is written under a VR."""
    dataset = ct_dataset()
    tag = Tag(tag_for_keyword(keyword) or 0)
    dataset._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    path = tmp_path / "instance.dcm"
    path.write_bytes(part10(dataset))
    return path


def derived(tmp_path: Path, source: Path) -> Dataset:
    """What a derived instance keeps, written and read."""
    kept = inherited(read_instance(source))
    path = tmp_path / "kept.dcm"
    kept.save_as(path, implicit_vr=False, little_endian=True)
    return dcmread(path, force=True)


@pytest.mark.fault(
    "processing",
    "a value under another value representation than the standard's",
    "the standard's is written, with the same value",
)
@pytest.mark.parametrize(
    ("keyword", "vr", "value", "meant", "number"),
    [
        ("SliceThickness", "SH", b"3 ", "DS", "3"),
        ("KVP", "LO", b"120 ", "DS", "120"),
        ("KVP", "FD", b"\0\0\0\0\0\0\x5e\x40", "DS", "120"),
        ("KVP", "US", b"\x78\0", "DS", "120"),
        ("Exposure", "LO", b"120 ", "IS", "120"),
        ("Exposure", "DS", b"120.0 ", "IS", "120"),
        ("SeriesNumber", "LO", b"3 ", "IS", "3"),
        ("CTDIvol", "DS", b"1.5 ", "FD", "1.5"),
        ("StudyID", "IS", b"12", "SH", "12"),
        ("SeriesDescription", "UT", b"head", "LO", "head"),
    ],
)
def test_the_standards_representation_is_written(
    tmp_path: Path, keyword: str, vr: str, value: bytes, meant: str, number: str
) -> None:
    element = derived(tmp_path, with_raw(tmp_path, keyword, vr, value))[keyword]
    assert (element.VR, str(element.value)) == (meant, number)


@pytest.mark.fault("processing", "Rows written as text", "the number that it is")
def test_rows_written_as_text_are_the_number(tmp_path: Path) -> None:
    rows = ct_dataset().Rows
    source = with_raw(tmp_path, "Rows", "IS", f"{rows:<4}".encode())
    assert read_folder(tmp_path).skipped == ()
    assert (derived(tmp_path, source)["Rows"].VR, read_instance(source).Rows) == ("US", rows)


@pytest.mark.fault(
    "processing",
    "a value that cannot be one of the standard's value representation",
    "it is left out of what is derived",
)
@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("KVP", "LO", b"high"),
        ("KVP", "LO", b"nan "),
        ("Exposure", "DS", b"1.25"),
        ("CTDIvol", "UT", b"much"),
        ("StudyID", "US", b"\x01\0"),
        ("AcquisitionNumber", "OB", b"\x01\0"),
    ],
)
def test_what_cannot_be_meant_is_left_out(tmp_path: Path, keyword: str, vr: str, value: bytes) -> None:
    assert keyword not in derived(tmp_path, with_raw(tmp_path, keyword, vr, value))
