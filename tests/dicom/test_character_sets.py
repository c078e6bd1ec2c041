"""Text of any Specific Character Set, from any encoding, arrives byte for byte; what is cut stays valid in it."""

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from factories import ct_dataset, file_meta_of
from pydicom import dcmread, dcmwrite
from pydicom.charset import convert_encodings, encode_string
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from iscl_node.dicom.deriving.derived import derive, encode
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.domain import Derivation
from iscl_node.errors import QuarantineSeriesError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

CHARACTER_SETS: dict[str, tuple[Any, str, str]] = {
    "Japanese, ISO 2022 IR 87": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "胸部"),
    "Japanese, ISO 2022 IR 13": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "胸部"),
    "Korean, ISO 2022 IR 149": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "흉부"),
    "Cyrillic, ISO_IR 144": ("ISO_IR 144", "Люкceмбypг", "Грудь"),
    "Arabic, ISO_IR 127": ("ISO_IR 127", "قباني^لنزار", "صدر"),
    "Unicode, ISO_IR 192": ("ISO_IR 192", "Wang^XiaoDong=王^小東", "胸"),
    "Chinese, GB18030": ("GB18030", "Wang^XiaoDong=王^小东", "胸部"),
    "Latin, ISO_IR 100": ("ISO_IR 100", "Äneas^Rüdiger", "Schädel"),
}
"""Specific Character Set, Patient's Name, and a word for Series Description; most names are those of PS3.5 H to L."""

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]

PATIENT = ("PatientName", "PatientComments", "StudyDescription", "ReferringPhysicianName", "SpecificCharacterSet")


@pytest.fixture(params=CHARACTER_SETS.values(), ids=CHARACTER_SETS.keys())
def texts(request: pytest.FixtureRequest) -> tuple[Any, str, str]:
    found: tuple[Any, str, str] = request.param
    return found


def source_of(texts: tuple[Any, str, str], description: str) -> Dataset:
    """A CT whose patient, study and request are told in a character set."""
    character_set, name, word = texts
    request = Dataset()
    request.RequestedProcedureDescription = word
    return ct_dataset(
        SpecificCharacterSet=character_set,
        PatientName=name,
        PatientComments=word,
        StudyDescription=word,
        ReferringPhysicianName=name,
        SeriesDescription=description,
        RequestAttributesSequence=[request],
    )


def file_of(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    dataset.file_meta = file_meta_of(dataset, syntax)
    stream = BytesIO()
    if not syntax.is_little_endian:
        dataset["PixelData"].value = dataset.pixel_array.astype(">i2").tobytes()
    dcmwrite(
        stream,
        dataset,
        enforce_file_format=True,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
    )
    return stream.getvalue()


def derived_file(source: bytes, derivation: Derivation) -> bytes:
    read = dcmread(BytesIO(source))
    return encode(derive(read, to_hu(read) + 5, derivation, NOW, NOW))


def raw_values(file: bytes, *keywords: str) -> list[bytes]:
    """The bytes of the values as they are in the file, which pydicom has not touched."""
    dataset = dcmread(BytesIO(file))
    found = []
    for keyword in keywords:
        value = dataset.get_item(keyword).value
        # pydicom decodes this one on reading; it is ASCII.
        found.append(value if isinstance(value, bytes) else str(value).encode())
    return found


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_patient_and_study_are_kept_byte_for_byte(
    texts: tuple[Any, str, str], syntax: UID, derivation: Derivation
) -> None:
    source = file_of(source_of(texts, "THORAX"), syntax)
    derived = derived_file(source, derivation)
    assert raw_values(derived, *PATIENT) == raw_values(source, *PATIENT)
    item = dcmread(BytesIO(derived)).RequestAttributesSequence[0]
    expected = dcmread(BytesIO(source)).RequestAttributesSequence[0]
    tag = "RequestedProcedureDescription"
    assert item.get_item(tag).value == expected.get_item(tag).value
    assert dcmread(BytesIO(derived)).PatientName == texts[1]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("character_set", ["ISO_IR 192", ["", "ISO 2022 IR 87"], "GB18030", None, "ISO_IR 999"])
@pytest.mark.filterwarnings("ignore")
def test_text_that_is_not_valid_in_its_character_set_is_kept_too(
    character_set: Any, syntax: UID, derivation: Derivation
) -> None:
    """A name in another character set than the declared one must not become question marks."""
    request = Dataset()
    request.RequestedProcedureDescription = "ABCDEFGHKL"
    made = ct_dataset(SpecificCharacterSet=character_set, PatientName="ABCDEFGHIJ", RequestAttributesSequence=[request])
    source = file_of(made, syntax).replace(b"ABCDEFGHIJ", b"\x81\xfc\xe4\xff\x1bGH^I ")
    source = source.replace(b"ABCDEFGHKL", b"\x81\xfc\xe4\xff\x1bGHKL ")
    derived = derived_file(source, derivation)
    assert raw_values(derived, "PatientName") == [b"\x81\xfc\xe4\xff\x1bGH^I "]
    assert b"\x81\xfc\xe4\xff\x1bGHKL " in derived


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("length", [1, 58, 59, 60, 64])
def test_series_description_is_cut_by_characters_and_valid(
    texts: tuple[Any, str, str], length: int, derivation: Derivation
) -> None:
    text = (texts[2] * 64)[:length]
    derived = derived_file(file_of(source_of(texts, text)), derivation)
    (value,) = raw_values(derived, "SeriesDescription")
    read = dcmread(BytesIO(derived)).SeriesDescription
    assert read in (text[:59] + " ISCL", text[:58] + " ISCL")
    assert len(read) >= min(length + 5, 63)
    assert value.rstrip(b" ") == encode_string(read, convert_encodings(texts[0]))


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (b"Th\xfcr\xe4x", b"Th\xfcr\xe4x ISCL"),
        (b"\x1b$BTh\xfcr\xe4x", b"\x1b$BTh\xfcr\xe4x ISCL"),
        (b"\xff" * 64, "\N{REPLACEMENT CHARACTER}".encode() * 59 + b" ISCL"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_series_description_that_is_not_valid_is_kept_where_nothing_is_cut(
    found: bytes, expected: bytes, syntax: UID, derivation: Derivation
) -> None:
    made = ct_dataset(SpecificCharacterSet="ISO_IR 192", SeriesDescription="X" * len(found))
    source = file_of(made, syntax).replace(b"X" * len(found), found)
    assert raw_values(source, "SeriesDescription")[0].rstrip() == found.rstrip()
    read = dcmread(BytesIO(source))
    for _ in range(2):  # two strengths
        derived = encode(derive(read, to_hu(read) + 5, derivation, NOW, NOW))
        assert raw_values(derived, "SeriesDescription")[0].rstrip() == expected.rstrip()


def test_overlay_words_of_a_big_endian_source_are_turned(derivation: Derivation) -> None:
    source = ct_dataset()
    source.add_new((0x6000, 0x0010), "US", 64)
    source.add_new((0x6000, 0x3000), "OW", b"\1\2" * 256)
    derived = derived_file(file_of(source, ExplicitVRBigEndian), derivation)
    kept = dcmread(BytesIO(derived))
    assert kept[0x60000010].value == 64
    assert kept[0x60003000].value == b"\2\1" * 256


def test_a_number_that_cannot_be_decoded_is_a_clear_error_without_its_value(derivation: Derivation) -> None:
    source = dcmread(BytesIO(file_of(ct_dataset(CTDIvol=3.5), ExplicitVRBigEndian)))
    element = source.get_item("CTDIvol")
    source._dict[element.tag] = element._replace(value=b"\1\2\3", length=3)
    with pytest.raises(QuarantineSeriesError, match=r"the attribute \(0018,9345\) cannot be read"):
        derive(source, to_hu(source), derivation, NOW, NOW)
