"""An attribute that the node looks at is legible, or its series goes to quarantine with its tag, never its value."""

from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from factories import ct_dataset, ct_series, part10
from multiframe import enhanced_ct, item
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import RLELossless

from iscl_node.dicom.deriving.derived import derive, encode
from iscl_node.dicom.reading.folder import read_folder, read_instance
from iscl_node.dicom.reading.frames import frames
from iscl_node.dicom.reading.header import read_header
from iscl_node.dicom.reading.legible import check_legible
from iscl_node.dicom.reading.volume import stored_values, to_hu
from iscl_node.dicom.selecting.series import select_series
from iscl_node.domain import Derivation
from iscl_node.errors import QuarantineSeriesError

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SLOPE = b"\x28\0\x53\x10DS"


def written(tmp_path: Path, part10: bytes) -> Path:
    """A file that was taken from its sender."""
    read_header(part10)
    path = tmp_path / "file.dcm"
    path.write_bytes(part10)
    return path


@pytest.mark.parametrize("kind", [ct_dataset, enhanced_ct])
def test_what_is_legible_is_left_as_it_is(tmp_path: Path, kind: Callable[[], FileDataset]) -> None:
    path = written(tmp_path, part10(kind()))
    untouched, checked = dcmread(path), dcmread(path)
    check_legible(checked)
    tags = list(untouched.keys())
    assert [checked.get_item(tag) for tag in tags] == [untouched.get_item(tag) for tag in tags]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (SLOPE + b"\2\0001 ", SLOPE[:4] + b"UL\2\0001 "),
        (b"\x08\0\x33\0TM", b"\x08\0\x33\0US"),
        (b"\x20\0\x11\0IS\2\0003", b"\x20\0\x11\0LO\2\0x"),
        (b"\x08\0\x3e\x10LO", b"\x08\0\x3e\x10US"),
        (b"ISO_IR 100", b"rot13     "),
    ],
    ids=["length", "number for text", "text for number", "number for description", "unknown character set"],
)
@pytest.mark.fault(
    "processing",
    "an attribute that the node looks at cannot be decoded, or is of another kind than the dictionary says",
    "quarantine with the attribute's name and without its value, offline, too",
)
def test_an_illegible_attribute_is_quarantined(tmp_path: Path, good: bytes, bad: bytes) -> None:
    whole = part10(ct_dataset(RescaleSlope="1"))
    assert good in whole
    path = written(tmp_path, whole.replace(good, bad))
    with pytest.raises(QuarantineSeriesError, match=r"the attribute [A-Z][A-Za-z ]+ \(\w{4},\w{4}\)") as fault:
        read_instance(path)
    assert "THORAX" not in str(fault.value)
    (tmp_path / "whole.dcm").write_bytes(whole)
    content = read_folder(tmp_path)
    assert (content.series, content.skipped) == ({}, ())
    (illegible,) = content.illegible
    assert (illegible.instances, illegible.reason) == (2, str(fault.value))


@pytest.mark.fault("processing", "a sequence that the node looks at is broken inside", "quarantine with its tag")
def test_a_broken_sequence_is_quarantined(tmp_path: Path) -> None:
    equipment = item(Manufacturer="Other", ManufacturerModelName="Box")
    whole = part10(ct_dataset(ContributingEquipmentSequence=[equipment]))
    with pytest.raises(QuarantineSeriesError, match=r"\(0008,1090\) is written as UL"):
        read_instance(written(tmp_path, whole.replace(b"\x90\x10LO", b"\x90\x10UL")))
    start = whole.index(b"\x18\0\x01\xa0SQ") + len("ggeeSQ..")
    length = int.from_bytes(whole[start : start + 4], "little")
    end = start + 4 + length
    with_half_an_item = (length + 4).to_bytes(4, "little") + whole[start + 4 : end] + b"\xfe\xff\0\xe0" + whole[end:]
    with pytest.raises(QuarantineSeriesError, match=r"\(0018,A001\)"):
        read_instance(written(tmp_path, whole[:start] + with_half_an_item))


def test_an_attribute_that_nobody_looks_at_may_be_illegible(tmp_path: Path) -> None:
    path = written(tmp_path, part10(ct_dataset(KVP="120")).replace(b"\x18\0\x60\0DS", b"\x18\0\x60\0FD"))
    assert select_series([read_instance(path)]).instances


def test_a_padding_value_may_be_written_as_a_word(tmp_path: Path) -> None:
    dataset = ct_dataset()
    dataset.add_new("PixelPaddingValue", "OW", b"\x30\xf8")
    assert read_instance(written(tmp_path, part10(dataset)))


@pytest.mark.parametrize("overrides", [{"Rows": 0}, {"Columns": 0}, {"Rows": None}])
@pytest.mark.fault("processing", "an image without Rows or Columns", "quarantine with the reason")
def test_no_rows_or_columns_are_quarantined(overrides: dict[str, int | None]) -> None:
    (instance,) = ct_series(1)
    for keyword, value in overrides.items():
        setattr(instance, keyword, value)
    with pytest.raises(QuarantineSeriesError, match="Rows"):
        select_series([instance])


@pytest.mark.parametrize("current", [float("nan"), float("inf")])
def test_a_frame_without_a_finite_tube_current_has_none(current: float) -> None:
    source = enhanced_ct(1)
    source.SharedFunctionalGroupsSequence[0].CTExposureSequence[0].XRayTubeCurrentInmA = current
    (view,) = frames(source)
    assert "XRayTubeCurrent" not in view


@pytest.mark.fault("processing", "a derived instance that cannot be written", "quarantine with the reason")
def test_what_cannot_be_written_is_quarantined() -> None:
    dataset = dcmread(BytesIO(part10(ct_dataset())))
    dataset["PatientID"].VR = "OW"
    with pytest.raises(QuarantineSeriesError, match="cannot be written"):
        encode(dataset)


@pytest.mark.fault(
    "processing",
    "an attribute that is kept but cannot be decoded, too long to be read at once",
    "quarantine with its tag",
)
def test_a_long_value_that_cannot_be_decoded_is_quarantined(tmp_path: Path, derivation: Derivation) -> None:
    dataset = ct_dataset()
    dataset.add_new("RedPaletteColorLookupTableData", "OW", bytes(20_002))
    whole = part10(dataset)
    source = read_instance(written(tmp_path, whole.replace(b"\x28\0\x01\x12OW", b"\x28\0\x01\x12UV")))
    with pytest.raises(QuarantineSeriesError, match=r"\(0028,1201\)"):
        derive(source, to_hu(source), derivation, NOW, NOW)


def test_an_extended_offset_table_without_lengths_is_left_alone(tmp_path: Path) -> None:
    source = enhanced_ct(2)
    source.compress(RLELossless, generate_instance_uid=False)
    source.ExtendedOffsetTable = bytes(16)
    views = frames(read_instance(written(tmp_path, part10(source))))
    assert [stored_values(view).shape for view in views] == [(64, 64), (64, 64)]


def test_an_extended_offset_table_that_is_text_is_quarantined(tmp_path: Path) -> None:
    source = enhanced_ct(2)
    source.compress(RLELossless, generate_instance_uid=False)
    source.ExtendedOffsetTable = source.ExtendedOffsetTableLengths = bytes(16)
    stream = part10(source).replace(b"\xe0\x7f\x01\0OV", b"\xe0\x7f\x01\0UT")
    with pytest.raises(QuarantineSeriesError, match="pixels of frame 1 are not there"):
        stored_values(frames(read_instance(written(tmp_path, stream)))[0])
