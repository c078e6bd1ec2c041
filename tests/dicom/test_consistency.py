"""One series is of one patient, one study and one frame of reference."""

from io import BytesIO
from typing import Any

import pytest
from factories import ROOT, ct_series, part10
from pydicom import dcmread
from pydicom.dataset import Dataset

from iscl_node.dicom.selecting.consistency import check_one_series
from iscl_node.dicom.selecting.series import select_series
from iscl_node.errors import QuarantineSeriesError

SECRETS = ("T1", "Doe", "Test", "P2", "1960", "Hospital")


def read_again(dataset: Dataset) -> Dataset:
    """As from a file, so that no value is decoded yet."""
    return dcmread(BytesIO(part10(dataset)))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            {"PatientID": "P2", "PatientName": "Doe^Jane", "PatientBirthDate": "19600203", "PatientSex": "F"},
            "2 patients in one series: Patient ID, Patient's Name and Patient's Sex differ",
        ),
        ({"PatientID": "P2"}, "2 patients in one series: Patient ID differs"),
        ({"PatientName": "Doe^Jane"}, "2 patients in one series: Patient's Name differs"),
        ({"StudyInstanceUID": f"{ROOT}.77"}, "2 studies in one series: Study Instance UID differs"),
        ({"FrameOfReferenceUID": f"{ROOT}.78"}, "2 frames of reference in one series: Frame of Reference UID differs"),
        ({"SeriesInstanceUID": f"{ROOT}.79"}, "2 series in one series: Series Instance UID differs"),
        ({"StudyInstanceUID": None}, "an instance has no StudyInstanceUID"),
    ],
)
@pytest.mark.fault(
    "processing",
    "instances of several patients, studies or frames of reference in one series",
    "quarantine, naming the attributes and never their values",
)
def test_what_is_not_one_series_is_quarantined(overrides: dict[str, Any], reason: str) -> None:
    first, second, third = map(read_again, ct_series(3))
    other = read_again(ct_series(4, **overrides)[3])
    with pytest.raises(QuarantineSeriesError) as caught:
        select_series([first, other, second, third])
    assert str(caught.value) == reason
    assert not [secret for secret in SECRETS if secret in str(caught.value)]


def test_an_id_is_one_of_its_issuer() -> None:
    series = ct_series(4, IssuerOfPatientID="Hospital A")
    series[2].IssuerOfPatientID, series[3].IssuerOfPatientID = "Hospital B", "Hospital C"
    with pytest.raises(QuarantineSeriesError, match="3 patients in one series: Issuer of Patient ID differs"):
        check_one_series(series)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", ""),
        ("PatientID", " T1 "),
        ("PatientName", "Test^Case^^"),
        ("PatientName", "TEST ^CASE"),
        ("PatientName", "Test^Case=試験^件名"),
        ("PatientName", None),
        ("PatientBirthDate", "1960.02.03"),
        ("PatientBirthDate", "00000000"),
        ("PatientSex", ""),
        ("IssuerOfPatientID", "Hospital"),
        ("FrameOfReferenceUID", None),
    ],
)
def test_what_says_less_or_the_same_otherwise_contradicts_nothing(keyword: str, value: str | None) -> None:
    common = {"PatientBirthDate": "19600203", "SpecificCharacterSet": "ISO_IR 192"}
    series, (other,) = ct_series(3, **common), ct_series(1, **(common | {keyword: value}))
    check_one_series(list(map(read_again, [*series, other])))


@pytest.mark.parametrize("character_set", [b"ISO IR 100", b"ISO_IR 6", b"nonsense"])
def test_the_same_bytes_are_one_name_whatever_is_said_of_their_character_set(character_set: bytes) -> None:
    as_written = [part10(each) for each in ct_series(2, PatientName="Müller^Jörg")]
    as_written[1] = as_written[1].replace(b"ISO_IR 100", character_set.ljust(10))
    check_one_series([dcmread(BytesIO(each)) for each in as_written])


def test_the_same_name_in_two_character_sets_is_one() -> None:
    series = [
        *ct_series(1, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100"),
        *ct_series(1, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 192"),
    ]
    check_one_series(list(map(read_again, series)))


def test_the_values_stay_the_bytes_that_they_were() -> None:
    instance = read_again(ct_series(1)[0])
    before = instance.get_item("PatientName")
    check_one_series([instance])
    assert instance.get_item("PatientName") is before


def test_what_comes_late_is_judged_with_what_came_before() -> None:
    *earlier, late = ct_series(3)
    assert select_series([late], earlier).instances == (late,)
    late.PatientID = "P2"
    with pytest.raises(QuarantineSeriesError, match="2 patients"):
        select_series([late], earlier)
