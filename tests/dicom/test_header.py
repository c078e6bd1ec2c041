"""Whatever bytes come, a header is read or the instance is refused with a status of PS3.4 Table B.2-1."""

import time
import tracemalloc
import zlib
from contextlib import suppress
from io import BytesIO

import pytest
from factories import CT_IMAGE, ROOT, ct_dataset, file_meta_of, part10
from hypothesis import given, settings
from hypothesis import strategies as st
from multiframe import enhanced_ct
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from iscl_node.dicom.reading import header
from iscl_node.dicom.reading.header import SIZES, read_header
from iscl_node.domain import InstanceHeader
from iscl_node.errors import RejectInstanceError

WHOLE = part10(ct_dataset())
SMALL = part10(ct_dataset(ct_dataset().pixel_array[:4, :4]))


def status_of(stream: bytes) -> int:
    with pytest.raises(RejectInstanceError) as refusal:
        read_header(stream)
    return refusal.value.status


def test_reads_the_identity() -> None:
    assert read_header(WHOLE) == InstanceHeader(
        CT_IMAGE, f"{ROOT}.3.1", f"{ROOT}.1", f"{ROOT}.2", "1.2.840.10008.1.2.1"
    )


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
def test_reads_real_files(name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert read_header(open(path, "rb").read()).sop_instance_uid == dcmread(path).SOPInstanceUID  # noqa: PTH123, SIM115


def test_reads_every_shared_image(shared_ct: list) -> None:
    for path in shared_ct:
        assert read_header(path.read_bytes()).sop_instance_uid == dcmread(path).SOPInstanceUID


def test_reads_compressed() -> None:
    dataset = ct_dataset()
    dataset.compress(RLELossless, generate_instance_uid=False)
    stream = part10(dataset)
    assert read_header(stream).transfer_syntax_uid == "1.2.840.10008.1.2.5"
    for length in range(len(stream) - 200, len(stream)):
        assert status_of(stream[:length]) == 0xC000


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_reads_other_encodings(syntax: str) -> None:
    dataset = ct_dataset()
    dataset.file_meta = file_meta_of(dataset, syntax)
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian,
             little_endian=syntax != ExplicitVRBigEndian)  # fmt: skip
    assert read_header(stream.getvalue()).transfer_syntax_uid == syntax
    assert status_of(stream.getvalue()[:-1]) in (0xC000, 0xA900)


def test_multiframe_pixels_have_the_length_of_all_frames() -> None:
    dataset = enhanced_ct(3)
    assert read_header(part10(dataset)).sop_class_uid == dataset.SOPClassUID
    dataset.NumberOfFrames = 2
    assert status_of(part10(dataset)) == 0xA900


@pytest.mark.parametrize("overrides", [{"Modality": "MR"}, {"PixelData": None}])
def test_multiframe_that_is_no_ct_is_refused(overrides: dict[str, str | None]) -> None:
    dataset = enhanced_ct(1)
    for keyword, value in overrides.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    assert status_of(part10(dataset)) == 0xA900


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.fault("reception", "a data set that is cut off at any of its bytes", "0xC000 or 0xA900")
def test_truncated_anywhere_is_refused() -> None:
    for length in range(len(SMALL)):
        assert status_of(SMALL[:length]) in (0xC000, 0xA900)


@pytest.mark.fault("reception", "a request without a data set, or with one of no bytes", "0xC000, and says so")
def test_an_empty_data_set_is_refused_as_such() -> None:
    stream = part10(ct_dataset())
    meta = stream[: 144 + int.from_bytes(stream[140:144], "little")]
    with pytest.raises(RejectInstanceError, match="the data set is empty") as caught:
        read_header(meta)
    assert caught.value.status == 0xC000


@pytest.mark.fault("reception", "a data set that is cut off behind its pixels", "0xC000")
def test_truncated_behind_the_pixels_is_refused() -> None:
    dataset = ct_dataset()
    dataset.add_new(0xFFFCFFFC, "OB", b"\0" * 20)
    stream = part10(dataset)
    for cut in range(1, 32):
        assert status_of(stream[:-cut]) == 0xC000


@pytest.mark.fault("reception", "a data set that is cut off in a sequence of undefined length", "0xC000")
def test_truncated_in_an_undefined_length_sequence_is_refused() -> None:
    """pydicom ends such a sequence without a word when the stream ends at an item's border."""
    dataset = ct_dataset(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    item = Dataset()
    item.PatientID = "AB"
    dataset.add_new(0x7FE10010, "LO", "X")
    dataset.add_new(0x7FE11010, "SQ", Sequence([item, item]))
    dataset[0x7FE11010].is_undefined_length = True
    stream = part10(dataset)
    assert read_header(stream)
    length = 12 + 2 * (8 + 8 + 2) + 8  # the sequence's header, its two items, its delimiter
    for cut in range(1, length):
        assert status_of(stream[:-cut]) == 0xC000


@pytest.mark.fault("reception", "a data set with more than zeros behind its end", "0xC000")
def test_longer_than_it_should_be_is_refused() -> None:
    assert status_of(WHOLE + b"\1") == 0xC000
    assert status_of(WHOLE + bytes(16) + b"\1") == 0xC000
    assert status_of(WHOLE + b"\xfe\xff\x0d\xe0\0\0\0\0" + b"more") == 0xC000


@pytest.mark.parametrize("stream", [b"", b"\0", b"DICM", b"\0" * 128 + b"DICM", b"\0" * 1000, WHOLE[128:]])
@pytest.mark.fault("reception", "garbage in place of a data set", "0xC000")
def test_garbage_is_refused(stream: bytes) -> None:
    assert status_of(stream) == 0xC000


def deflated(**overrides: object) -> bytes:
    dataset = ct_dataset(**overrides)
    dataset.file_meta = file_meta_of(dataset, DeflatedExplicitVRLittleEndian)
    return part10(dataset)


def test_deflated_is_read() -> None:
    known = read_header(deflated())
    assert known.transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    assert known.sop_instance_uid == f"{ROOT}.3.1"


@pytest.mark.fault("reception", "a deflated data set that is cut off or goes on behind its end", "0xC000")
def test_truncated_or_prolonged_deflated_is_refused() -> None:
    stream = deflated()
    for cut in (2, 3, 100, len(stream) // 2):
        assert status_of(stream[:-cut]) == 0xC000
    assert status_of(stream + b"more") == 0xC000


@pytest.mark.fault("reception", "a deflated data set that inflates beyond the limit", "0xC000 with bounded memory")
def test_deflate_bomb_is_refused_with_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "INFLATED_MAX_BYTES", 1 << 20)
    start = deflated()
    meta = start[: start.index(b"1.2.840.10008.1.2.1.99") + 22]
    zeros = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = meta + zeros.compress(bytes(64 << 20)) + zeros.flush()
    tracemalloc.start()
    assert status_of(bomb) == 0xC000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.fault("reception", "a data set in another encoding than declared", "0xC000")
def test_encoding_other_than_declared_is_refused() -> None:
    stream = WHOLE.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0", 1)
    assert status_of(stream) == 0xC000


@pytest.mark.fault("reception", "sequences nested 2000 deep", "0xC000")
def test_endless_nesting_is_refused() -> None:
    nested = (b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 2000
    start = WHOLE.index(b"\x08\x00\x05\x00CS")
    assert status_of(WHOLE[:start] + nested) == 0xC000


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, "", "1.2/../3", "1" * 65])
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.fault("reception", "a data set without one of its UIDs, or with one that is none", "0xA900")
def test_without_identity_is_refused(keyword: str, value: str | None) -> None:
    dataset = ct_dataset(**{keyword: value})
    dataset.file_meta = file_meta_of(ct_dataset())
    stream = BytesIO()
    dcmwrite(stream, dataset)
    assert status_of(stream.getvalue()) == 0xA900


@pytest.mark.parametrize("keyword", ["MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID"])
@pytest.mark.fault("reception", "a data set that is another instance than its file meta information says", "0xA900")
def test_file_meta_of_another_instance_is_refused(keyword: str) -> None:
    dataset = ct_dataset()
    setattr(dataset.file_meta, keyword, "1.2.3")
    stream = BytesIO()
    dcmwrite(stream, dataset)
    assert status_of(stream.getvalue()) == 0xA900


@pytest.mark.fault("reception", "a CT image of another modality", "0xA900")
def test_ct_image_of_another_modality_is_refused() -> None:
    assert status_of(part10(ct_dataset(Modality="MR"))) == 0xA900


@pytest.mark.fault("reception", "a CT image without pixels", "0xA900")
def test_ct_image_without_pixels_is_refused() -> None:
    dataset = ct_dataset()
    del dataset.PixelData
    assert status_of(part10(dataset)) == 0xA900


def test_other_classes_need_no_pixels() -> None:
    dataset = ct_dataset(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    del dataset.PixelData
    assert read_header(part10(dataset)).sop_class_uid == "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.mark.fault("reception", "native pixels in a compressed transfer syntax", "0xA900")
def test_native_pixels_in_a_compressed_syntax_are_refused() -> None:
    rle = WHOLE.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1)
    assert status_of(rle) == 0xA900


@pytest.mark.parametrize(
    "overrides", [{"Rows": 65}, {"Columns": 65}, {"Rows": 32}, {"BitsAllocated": 8}, {"NumberOfFrames": 2}]
)
@pytest.mark.fault("reception", "pixels of another length than rows, columns, bits and frames say", "0xA900")
def test_pixels_of_another_length_are_refused(overrides: dict) -> None:
    assert status_of(part10(ct_dataset(**overrides))) == 0xA900


@pytest.mark.parametrize("keyword", SIZES)
@pytest.mark.fault(
    "reception", "several values of what the pixels' length is computed from", "0xA900, the memory does not grow"
)
def test_several_rows_are_refused_with_little_memory(keyword: str) -> None:
    several = ct_dataset(**{keyword: [1, 1], "Columns": 0xFFFF} if keyword != "Columns" else {"Columns": [1, 1]})
    stream = part10(several)
    tracemalloc.start()
    assert status_of(stream) == 0xA900
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("vr", [b"LO", b"SQ", b"\0\0"])
@pytest.mark.fault("reception", "file meta information whose UIDs are not written as UIDs", "0xC000")
def test_file_meta_uid_of_another_vr_is_refused(vr: bytes) -> None:
    assert status_of(WHOLE.replace(b"\x02\0\x10\0UI", b"\x02\0\x10\0" + vr, 1)) == 0xC000


@pytest.mark.fault("reception", "pixels that are written as text", "0xA900")
def test_pixels_written_as_text_are_refused() -> None:
    dataset = ct_dataset()
    dataset.compress(RLELossless, generate_instance_uid=False)
    for stream in (part10(dataset), WHOLE):
        start = stream.index(b"\xe0\x7f\x10\0") + 4
        assert status_of(stream[:start] + b"UC" + stream[start + 2 :]) == 0xA900


@pytest.mark.fault("reception", "a data set with a patient's name is refused", "the reason does not hold the name")
def test_reason_carries_no_patient_data() -> None:
    stream = part10(ct_dataset(PatientName="Secret^Name", Rows=300))
    with pytest.raises(RejectInstanceError) as refusal:
        read_header(stream)
    assert "Secret" not in refusal.value.reason


@given(st.binary(max_size=400))
@pytest.mark.fault("reception", "random bytes behind the preamble", "0xC000 or 0xA900")
def test_random_bytes_are_refused(tail: bytes) -> None:
    assert status_of(b"\0" * 128 + b"DICM" + tail) in (0xC000, 0xA900)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(132, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@pytest.mark.filterwarnings("ignore")
@pytest.mark.fault("reception", "a data set with some bytes changed", "read or refused, nothing else")
def test_flipped_bytes_are_read_or_refused(flips: list[tuple[int, int]]) -> None:
    stream = bytearray(SMALL)
    for position, byte in flips:
        stream[position] = byte
    with suppress(RejectInstanceError):
        read_header(bytes(stream))


def test_is_cheap() -> None:
    stream = open(get_testdata_file("CT_small.dcm", download=False), "rb").read()  # noqa: PTH123, SIM115
    durations = []
    for _ in range(20):
        start = time.perf_counter()
        read_header(stream)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.005
