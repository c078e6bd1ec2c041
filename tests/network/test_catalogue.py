"""What a query for studies means; archives answer it in tests/system/test_fetch.py."""

import pytest

from iscl_node.errors import ConfigurationError
from iscl_node.network.scu.catalogue import Query


def test_a_query_is_split_into_what_matches_studies_and_what_matches_series() -> None:
    query = Query.read("StudyDate=20260101-20260131 SeriesDescription='THIN *' PatientID=7")
    assert query.study == {"StudyDate": "20260101-20260131", "PatientID": "7", "ModalitiesInStudy": "CT"}
    assert query.series == {"Modality": "CT", "SeriesDescription": "THIN *"}


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("StudyDate=20240228-20240301", ["20240228", "20240229", "20240301"]),
        ("StudyDate=20240228", ["20240228"]),
        ("StudyDate=20240228-", ["20240228-"]),
        ("PatientID=7", [""]),
    ],
)
def test_each_day_is_asked_for_on_its_own(text: str, days: list[str]) -> None:
    assert [each.study.get("StudyDate", "") for each in Query.read(text).days()] == days


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("StudyDat=20260101", "did you mean StudyDate"),
        ("Modality", "written as Modality=CT"),
        ("StudyDate='2026", "cannot be read"),
        ("Modality=CT", "else it finds everything"),
        ("PatientName=*", "else it finds everything"),
        ("StudyDate=January", "StudyDate=January"),
        ("StudyDate=20260101 SeriesNumber=first", "SeriesNumber=first"),
    ],
)
def test_a_wrong_query_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Query.read(text)
