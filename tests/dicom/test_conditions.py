"""Conditions: what a table says, whether it holds, and the faults it may have."""

import time
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iscl_node.dicom.selecting.condition_tables import FaultyTableError, read_conditions
from iscl_node.dicom.selecting.conditions import Finding

SERIES: dict[str, tuple[Any, ...]] = {
    "Modality": ("CT",),
    "KVP": (120.0,),
    "SeriesDescription": ("Low dose THORAX 1,0",),
    "ImageType": ("DERIVED", "PRIMARY", "AXIAL"),
    "ConvolutionKernel": ("B30f",),
    "WindowCenter": (40.0, 600.0),
    "Rows": (512,),
}


def finding(when: str, **values: tuple[Any, ...]) -> Finding:
    table = tomllib.loads(f"when = {{ {when} }}")["when"]
    return read_conditions(table).finding(lambda keyword: (SERIES | values).get(keyword, ()))


@pytest.mark.parametrize(
    "when",
    [
        "",
        'Modality = "CT"',
        'Modality = "CT", KVP = 120',
        'KVP = "120"',
        'ImageType = "AXIAL"',
        "KVP = { min = 80, max = 140 }",
        "KVP = { min = 120 }",
        "KVP = { max = 120 }",
        "WindowCenter = { min = 500 }",
        'ConvolutionKernel = { in = ["FC08", "B30f"] }',
        "Rows = { in = [256, 512] }",
        'SeriesDescription = { matches = "(?i)thorax" }',
        'SeriesDescription = { matches = "^Low.*[0-9]$" }',
        "KVP = { present = true }",
        "ContrastBolusAgent = { present = false }",
        'any = [ { Modality = "MR" }, { Modality = "CT", KVP = 120 } ]',
        "all = [ { any = [ { Rows = 512 }, { Rows = 256 } ] }, { any = [ { KVP = 120 } ] } ]",
        'not = { ImageType = "LOCALIZER" }',
        'not = { Modality = "CT", KVP = 80 }',
        "KVP = { in = [120, 140], min = 110 }",
    ],
)
def test_holds(when: str) -> None:
    assert finding(when).holds


@pytest.mark.parametrize(
    "when",
    [
        'Modality = "MR"',
        'Modality = "ct"',
        'Modality = "CT", KVP = 80',
        'KVP = "high"',
        "KVP = { min = 121 }",
        "WindowCenter = { min = 100, max = 300 }",  # not one value in the range
        "ExposureTime = { min = 0 }",
        'ProtocolName = "None"',
        'ProtocolName = { matches = ".*" }',
        'SeriesDescription = { matches = "^thorax" }',
        "KVP = { present = false }",
        "ContrastBolusAgent = { present = true }",
        'any = [ { Modality = "MR" }, { Modality = "CT", KVP = 80 } ]',
        'not = { ImageType = "AXIAL" }',
        "KVP = { in = [120, 140], min = 130 }",
    ],
)
def test_does_not_hold(when: str) -> None:
    assert not finding(when).holds


@pytest.mark.parametrize(
    ("when", "fault"),
    [
        ('Modalty = "CT"', "when.Modalty is an unknown attribute keyword, did you mean Modality?"),
        ('"xyz!" = "CT"', "when.xyz! is an unknown attribute keyword"),
        ('SourceImageSequence = "x"', "when.SourceImageSequence cannot be compared with anything (VR SQ)"),
        ("KVP = { min = 140, max = 80 }", "when.KVP has min 140 above max 80"),
        ("KVP = { min = nan }", "when.KVP has min nan above max inf"),
        ('KVP = { min = "80" }', "when.KVP has a min or max that is no number"),
        ("KVP = { max = true }", "when.KVP has a min or max that is no number"),
        ("StudyID = { min = 1 }", "when.StudyID has min or max, but its values are no numbers (VR SH)"),
        ("KVP = {}", "when.KVP is empty; it may have in, min, max and matches, or present = true or false alone"),
        ("KVP = { equals = 3 }", "when.KVP has 'equals'; it may have in, min,"),
        ("KVP = { present = true, min = 3 }", "when.KVP has 'present'; it may have"),
        ("KVP = { present = 1.5 }", "when.KVP has 'present'; it may have"),
        ("KVP = true", "when.KVP must be a text or a number"),
        ("KVP = [80, 120]", "when.KVP must be a text or a number"),
        ("KVP = { in = [] }", "when.KVP.in must be a text or a number"),
        ("KVP = { in = 80 }", "when.KVP.in must be a text or a number"),
        ("StudyDate = 2024-01-01", "when.StudyDate must be a text or a number"),
        ('StudyID = { matches = "(" }', "when.StudyID.matches is no regular expression of RE2: missing )"),
        (r"StudyID = { matches = '(a)\1' }", "when.StudyID.matches is no regular expression of RE2: invalid escape"),
        ('StudyID = { matches = "" }', "when.StudyID.matches must be a regular expression of 1 to 500 characters"),
        ("StudyID = { matches = 5 }", "when.StudyID.matches must be a regular expression"),
        ("any = []", "when.any must be a list of tables of conditions, none of them empty"),
        ("any = [{}]", "when.any must be a list"),
        ("any = { KVP = 80 }", "when.any must be a list"),
        ("all = [ { KVP = 80 }, 3 ]", "when.all[1] is 3, not a table of conditions"),
        ("not = {}", "when.not is empty, so it would never hold"),
        ("not = [ { KVP = 80 } ]", "when.not is [{'KVP': 80}], not a table of conditions"),
        ("any = [ { KVP = 80 }, { not = { Kvp = 1 } } ]", "when.any[1].not.Kvp is an unknown attribute keyword"),
    ],
)
def test_a_fault_is_told_with_its_key(when: str, fault: str) -> None:
    with pytest.raises(FaultyTableError) as caught:
        finding(when)
    (told,) = caught.value.faults
    assert told.startswith(fault)


def test_every_fault_is_told() -> None:
    with pytest.raises(FaultyTableError) as caught:
        finding('Modalty = "CT", KVP = {}, any = [], not = { Rows = { min = 2, max = 1 } }')
    assert [fault.split()[0] for fault in caught.value.faults] == [
        "when.Modalty", "when.KVP", "when.any", "when.not.Rows",
    ]  # fmt: skip


def test_no_expression_takes_long() -> None:
    started = time.monotonic()
    assert not finding('StudyID = { matches = "^(a+)+$" }', StudyID=("a" * 10_000 + "!",)).holds
    assert time.monotonic() - started < 5


def test_a_finding_tells_each_part_and_what_was_found() -> None:
    found = finding('KVP = { min = 80, max = 110 }, any = [ { Rows = 512 }, { StudyID = "1" } ]')
    assert found.text == "all of"
    kvp, any_of = found.parts
    assert (kvp.text, kvp.holds, kvp.found) == ("KVP is from 80 to 110", False, "120.0")
    assert (any_of.text, any_of.holds) == ("any of", True)
    assert [(part.text, part.holds, part.found) for part in any_of.parts] == [
        ("Rows is 512", True, "512"),
        ('StudyID is "1"', False, ""),
    ]


def test_long_values_are_cut_in_findings() -> None:
    assert finding("PatientComments = { present = true }", PatientComments=("x" * 200,)).found == "x" * 80 + "..."


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ("KVP = { min = 80 }", "KVP is at least 80"),
        ("KVP = { max = 80 }", "KVP is at most 80"),
        ('Modality = { in = ["CT", "PT"] }', 'Modality is one of "CT", "PT"'),
        ("KVP = { present = true }", "KVP is present"),
        ("KVP = { present = false }", "KVP is absent"),
        ('StudyID = { matches = "^1" }', "StudyID matches '^1'"),
        ('not = { Modality = "CT" }', "not"),
        ("", "every series"),
    ],
)
def test_a_condition_has_words(when: str, text: str) -> None:
    assert finding(when).text == text


values = st.dictionaries(st.sampled_from(["Rows", "Columns"]), st.integers(0, 3), max_size=2)


@given(
    st.recursive(
        values, lambda table: st.builds(lambda a, b: {"any": [a or {"Rows": 0}, b or {"Rows": 0}]}, table, table)
    )
)
def test_not_turns_every_table_around(table: dict[str, Any]) -> None:
    def holds(when: dict[str, Any]) -> bool:
        return read_conditions(when).finding(lambda keyword: {"Rows": (1,), "Columns": (2,)}[keyword]).holds

    if table:
        assert holds({"not": table}) is not holds(table)
        assert holds({"all": [table, table]}) is holds(table)
