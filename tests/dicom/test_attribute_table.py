"""Each row of the attribute table against a derived instance whose source has every attribute that the rows name."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from factories import ROOT, ct_dataset, part10, soft_tissue
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from iscl_node.conformance.attributes import CT_IMAGE, Row, Treatment
from iscl_node.dicom.deriving.derived import derive, encode
from iscl_node.dicom.reading.volume import to_hu
from iscl_node.domain import Derivation, PrivateElement, Site

NOW = datetime(2026, 3, 1, 12, 30, 5, 250000, tzinfo=UTC)
PITCH = PrivateElement(0x0043, 0x27, "GEMS_PARM_01")

VALUES: dict[str, Any] = {
    "AS": "042Y",
    "CS": "YES",
    "DA": "20240102",
    "DS": "2.50 ",
    "DT": "20240102101112",
    "IS": "12",
    "LO": "A text",
    "LT": "A text",
    "PN": "Doe^Jane",
    "SH": "A text",
    "ST": "A text",
    "TM": "101112.500",
    "UC": "A text",
    "UI": "1.2.3.4",
    "UR": "https://example.org",
    "FD": 3.5,
    "OB": b"\1\2",
}
"""A value for each value representation, for attributes that the row's test does not care about."""


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


SPECIFIC: dict[str, Any] = {
    "TimezoneOffsetFromUTC": "+0000",
    "LossyImageCompression": "01",
    "LossyImageCompressionRatio": [10, 3.5],
    "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_15444_1"],
    "WindowCenter": [40, -600],
    "WindowWidth": [400, 1500],
    "WindowCenterWidthExplanation": ["SOFT", "LUNG"],
    "PixelPaddingValue": -2000,
    "PixelPaddingRangeLimit": -1990,
    "SmallestImagePixelValue": -7,
    "LargestImagePixelValue": -7,
    "SmallestPixelValueInSeries": -7,
    "LargestPixelValueInSeries": -7,
}


@pytest.fixture
def source() -> Dataset:
    """A CT instance with every attribute of the table, read from its file."""
    keywords = [keyword for row in CT_IMAGE for keyword in row.keywords]
    made = ct_dataset()
    for keyword in keywords:
        if keyword not in made or keyword in SPECIFIC:
            made.add_new(tag_for_keyword(keyword), *_vr_and_value(keyword))
    return dcmread(BytesIO(part10(made)))


def _vr_and_value(keyword: str) -> tuple[str, Any]:
    vr = dictionary_VR(keyword)
    if vr == "SQ":
        return vr, [item(SeriesInstanceUID="1.2.3", PatientComments="In an item")]
    vr = "SS" if "SS" in vr else vr
    return vr, SPECIFIC.get(keyword, VALUES.get(vr))


def written(source: Dataset, derivation: Derivation, hu_change: float = 5) -> Dataset:
    """Derive, write, and read back."""
    stream = encode(derive(source, to_hu(source) + np.float32(hu_change), derivation, NOW, NOW))
    return dcmread(BytesIO(stream))


def raw(dataset: Dataset, tag: Any) -> object:
    """The bytes of a value as they are in the file, None without the attribute; a few are decoded on reading."""
    element = dataset.get_item(tag)
    return None if element is None else element.value


def named(rows: Iterable[Row]) -> list[Any]:
    return [pytest.param(row, id=f"{row.treatment} {row.keywords[0]}") for row in rows if row.keywords]


def rows(treatment: Treatment) -> list[Any]:
    return named(row for row in CT_IMAGE if row.treatment is treatment)


@pytest.mark.parametrize("row", rows(Treatment.KEPT))
def test_kept(row: Row, source: Dataset, derivation: Derivation) -> None:
    derived = written(deepcopy(source), derivation)
    for keyword in row.keywords:
        assert raw(derived, keyword) == raw(source, keyword), keyword


@pytest.mark.parametrize("row", rows(Treatment.NEW))
def test_new(row: Row, source: Dataset, derivation: Derivation) -> None:
    derived = written(source, derivation)
    for keyword in row.keywords:
        assert derived[keyword].value != source[keyword].value, keyword


@pytest.mark.parametrize("row", rows(Treatment.APPENDED))
def test_appended(row: Row, source: Dataset, derivation: Derivation) -> None:
    derived = written(source, derivation)
    for keyword in row.keywords:
        older = source[keyword].value
        assert derived[keyword].value[: len(older)] == older
        assert len(derived[keyword].value) == len(older) + 1


@pytest.mark.parametrize("row", rows(Treatment.REMOVED))
def test_removed(row: Row, source: Dataset, derivation: Derivation) -> None:
    derived = written(source, derivation)
    for keyword in row.keywords:
        assert keyword in source
        assert keyword not in derived


def test_the_table_names_every_attribute_that_is_not_simply_kept(source: Dataset, derivation: Derivation) -> None:
    derived = written(deepcopy(source), derivation)
    changed = {tag for tag in {*source.keys(), *derived.keys()} if raw(source, tag) != raw(derived, tag)}
    treated = [row for row in CT_IMAGE if row.treatment is not Treatment.KEPT]
    assert changed == {tag_for_keyword(keyword) for row in treated for keyword in row.keywords}


# What the table says of no single attribute


def test_no_attribute_is_in_two_rows() -> None:
    keywords = [keyword for row in CT_IMAGE for keyword in row.keywords]
    assert len(keywords) == len(set(keywords))
    assert all(tag_for_keyword(keyword) for keyword in keywords)


def test_signatures_and_group_lengths_go_from_items_too(derivation: Derivation) -> None:
    request = item(ScheduledProcedureStepID="1", DigitalSignaturesSequence=[item(MACIDNumber=1)])
    request.add_new(0x00400000, "UL", 4)
    derived = written(ct_dataset(RequestAttributesSequence=[request]), derivation)
    assert [element.keyword for element in derived.RequestAttributesSequence[0]] == ["ScheduledProcedureStepID"]


def test_what_belongs_to_no_data_set_goes(derivation: Derivation) -> None:
    source = ct_dataset()
    source.add_new(0x00041130, "CS", "FILESET")
    source.add_new(0x7F000010, "OW", b"\0\0")
    source.add_new(0x7FE00003, "UV", 8192)
    tags = set(written(source, derivation).keys())
    assert not tags & {0x00041130, 0x7F000010, 0x7FE00003}


@pytest.mark.parametrize("value", ["YES", "NO", None])
def test_synthetic_data_stays_what_it_is(value: str | None, derivation: Derivation) -> None:
    derived = written(ct_dataset(SyntheticData=value), derivation)
    assert derived.get("SyntheticData") == value


@pytest.mark.parametrize(
    ("of_source", "setting", "expected"),
    [
        (None, "RESEARCH", "RESEARCH"),
        ("PRODUCT", "RESEARCH", "RESEARCH"),
        (None, "PRODUCT", "PRODUCT"),
        ("PRODUCT", "PRODUCT", "PRODUCT"),
        ("RESEARCH", "PRODUCT", "RESEARCH"),
        ("SERVICE", "PRODUCT", "RESEARCH"),
    ],
)
def test_content_qualification(of_source: str | None, setting: str, expected: str, derivation: Derivation) -> None:
    at_site = replace(derivation, site=Site(content_qualification=setting))
    derived = written(ct_dataset(ContentQualification=of_source), at_site)
    assert derived.ContentQualification == expected
    assert ("not for diagnosis" in derived.DerivationDescription) == (setting == "RESEARCH")


def test_the_site_is_told_in_contributing_equipment_and_in_the_file(derivation: Derivation) -> None:
    site = Site("NODE_3", "General Hospital", "Radiology", "ISCL3")
    derived = written(ct_dataset(InstitutionName="Elsewhere", StationName="CT1"), replace(derivation, site=site))
    node = derived.ContributingEquipmentSequence[-1]
    assert node.InstitutionName == "General Hospital"
    assert node.InstitutionalDepartmentName == "Radiology"
    assert node.StationName == "ISCL3"
    assert (derived.InstitutionName, derived.StationName) == ("Elsewhere", "CT1")
    assert derived.file_meta.SourceApplicationEntityTitle == "NODE_3"


def test_without_a_site_nothing_is_made_up(derivation: Derivation) -> None:
    derived = written(ct_dataset(), derivation)
    node = derived.ContributingEquipmentSequence[-1]
    assert not {"InstitutionName", "InstitutionalDepartmentName", "StationName"} & set(node.dir())
    assert "SourceApplicationEntityTitle" not in derived.file_meta


def test_the_source_joins_the_item_of_its_own_series(derivation: Derivation) -> None:
    localizer = item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.2.3")
    own = item(SeriesInstanceUID=f"{ROOT}.2", ReferencedInstanceSequence=[localizer])
    derived = written(ct_dataset(ReferencedSeriesSequence=[own]), derivation)
    (series,) = derived.ReferencedSeriesSequence
    uids = [each.ReferencedSOPInstanceUID for each in series.ReferencedInstanceSequence]
    assert uids == ["1.2.3", f"{ROOT}.3.1"]


def test_of_a_derived_source_every_step_is_told(derivation: Derivation) -> None:
    source = ct_dataset(
        ImageType=["DERIVED", "SECONDARY", "AXIAL", "MPR"],
        DerivationDescription="MPR",
        DerivationCodeSequence=[item(CodeValue="113085")],
        SourceImageSequence=[item(ReferencedSOPInstanceUID="1.2.3"), item(ReferencedSOPInstanceUID="1.2.4")],
    )
    derived = written(source, derivation)
    assert derived.ImageType == ["DERIVED", "SECONDARY", "AXIAL", "MPR"]
    assert derived.DerivationDescription.endswith("Source: MPR")
    assert [code.CodeValue for code in derived.DerivationCodeSequence] == ["113085", "113087"]
    assert [each.ReferencedSOPInstanceUID for each in derived.SourceImageSequence] == [f"{ROOT}.3.1"]


# Private elements


def with_private(**overrides: Any) -> Dataset:
    source = ct_dataset(**overrides)
    block = source.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x27, "SH", "/1.375:1")
    block.add_new(0x28, "OB", b"\1\2")
    source.private_block(0x0009, "GEMS_IDEN_01", create=True).add_new(0x27, "LO", "No")
    other = source.private_block(0x0043, "SOMEBODY ELSE", create=True)
    other.add_new(0x27, "SH", "No")
    return source


def private_tags(dataset: Dataset) -> list[int]:
    return [int(element.tag) for element in dataset.iterall() if element.tag.is_private]


def test_no_private_element_is_kept_unless_it_is_named(derivation: Derivation) -> None:
    assert not private_tags(written(with_private(), derivation))


def test_named_private_elements_are_kept_with_their_creator(derivation: Derivation) -> None:
    derived = written(dcmread(BytesIO(part10(with_private()))), replace(derivation, site=Site(keep_private=(PITCH,))))
    assert private_tags(derived) == [0x00430010, 0x00431027]
    assert derived[0x00430010].value == "GEMS_PARM_01"
    assert (derived[0x00431027].VR, derived[0x00431027].value) == ("SH", "/1.375:1")


def test_the_block_may_lie_anywhere_and_the_vr_stays_as_it_is(derivation: Derivation) -> None:
    source = ct_dataset()
    source.add_new(0x004300E1, "LO", "GEMS_PARM_01")
    source.add_new(0x0043E127, "UN", b"\xff\0\1")
    derived = written(dcmread(BytesIO(part10(source))), replace(derivation, site=Site(keep_private=(PITCH,))))
    element = derived.get_item(0x0043E127)
    assert (element.VR, element.value[:3]) == ("UN", b"\xff\0\1")
    assert private_tags(derived) == [0x004300E1, 0x0043E127]


def test_private_elements_of_items_follow_the_same_rule(derivation: Derivation) -> None:
    source = ct_dataset(RequestAttributesSequence=[with_private()])
    derived = written(source, replace(derivation, site=Site(keep_private=(PITCH,))))
    assert private_tags(derived) == [0x00430010, 0x00431027]


# Odd inputs


@pytest.mark.parametrize(
    ("number", "lowest"), [(3, 3500), (0, 500), (1_999_999, 1_999_999_500), (60351, 60_351_500), ("7 ", 7500)]
)
def test_series_number_tells_the_source(number: Any, lowest: int, derivation: Derivation) -> None:
    assert lowest <= written(ct_dataset(SeriesNumber=number), derivation).SeriesNumber <= lowest + 249


@pytest.mark.filterwarnings("ignore:Invalid value for VR IS")
@pytest.mark.parametrize("number", [b"", b"-4", b"2147483647", b"2000000 ", b"A3", b"3\\4 "])
def test_series_without_a_usable_number_get_different_ones(number: bytes, derivation: Derivation) -> None:
    numbers = set()
    for uid in (f"{ROOT}.2", f"{ROOT}.3"):
        source = ct_dataset(SeriesInstanceUID=uid)
        source = dcmread(BytesIO(part10(source)))
        raw_number = source.get_item("SeriesNumber")
        source._dict[raw_number.tag] = raw_number._replace(value=number, length=len(number))
        numbers.add(int(written(source, derivation).SeriesNumber))
    assert len(numbers) == 2
    assert all(2_000_000_000 <= each < 2**31 for each in numbers)


def test_no_two_numbers_of_a_study_give_the_same(derivation: Derivation) -> None:
    of_sources = [*range(300), 2**31 - 1, -4, None]
    sources = [ct_dataset(SeriesNumber=each, SeriesInstanceUID=f"{ROOT}.9.{i}") for i, each in enumerate(of_sources)]
    derivations = [replace(derivation, strength=strength) for strength in (0.25, 0.5, 1.0)]
    hu = to_hu(sources[0])
    numbers = {int(derive(each, hu, how, NOW, NOW).SeriesNumber) for each in sources for how in derivations}
    assert len(numbers) == len(sources) * len(derivations)


@pytest.mark.parametrize("image_type", ["ORIGINAL", ["ORIGINAL"], ["ORIGINAL", "PRIMARY"], [], None])
def test_image_type_always_has_the_three_values_of_a_ct(image_type: Any, derivation: Derivation) -> None:
    assert written(ct_dataset(ImageType=image_type), derivation).ImageType == ["DERIVED", "PRIMARY", "AXIAL"]


@pytest.mark.parametrize("offset", ["+9900", "0100", "+01:00", "", "-1460"])
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_an_impossible_time_zone_is_not_applied(offset: str, derivation: Derivation) -> None:
    assert written(ct_dataset(TimezoneOffsetFromUTC=offset), derivation).ContentTime == "123005.250000"


def test_extremes_are_those_of_the_new_pixels(derivation: Derivation) -> None:
    source = ct_dataset(np.maximum(soft_tissue(), 0).astype(np.uint16), PixelRepresentation=0)
    source.add_new("SmallestImagePixelValue", "US", 9)
    source.add_new("LargestImagePixelValue", "US", 9)
    derived = written(source, derivation, hu_change=3)
    assert derived["SmallestImagePixelValue"].VR == "US"
    assert derived.SmallestImagePixelValue == source.pixel_array.min() + 3
    assert derived.LargestImagePixelValue == source.pixel_array.max() + 3


def test_voi_lut_is_kept(derivation: Derivation) -> None:
    lut = Dataset()
    lut.add(DataElement("LUTDescriptor", "SS", [4, -1000, 16]))
    lut.add_new("LUTData", "OW", b"\0\0\1\0\2\0\3\0")
    source = ct_dataset(VOILUTSequence=Sequence([lut]))
    (kept,) = written(dcmread(BytesIO(part10(source))), derivation).VOILUTSequence
    assert (kept["LUTDescriptor"].VR, kept.LUTDescriptor) == ("SS", [4, -1000, 16])
    assert kept.LUTData == b"\0\0\1\0\2\0\3\0"
