"""docs/reliability.md says what the marks of the tests say."""

from pathlib import Path

import pytest
from fault_matrix import PLACES, WrongMarkError, marked_faults, reliability_page
from surroundings import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "reliability.md"


def test_the_document_is_the_one_that_the_tests_give() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == reliability_page(), (
        "run: python tests/fault_matrix.py > docs/reliability.md"
    )


def test_every_place_has_faults() -> None:
    assert {fault.place for fault, _, _ in marked_faults()} == set(PLACES)


@pytest.mark.parametrize(
    "arguments", ['"spool", "a fault"', '"nowhere", "a fault", "an end"', '"spool", "a fault", ""', '"spool", x, "end"']
)
def test_a_wrong_mark_is_named(tmp_path: Path, arguments: str) -> None:
    (tmp_path / "test_it.py").write_text(f"@pytest.mark.fault({arguments})\ndef test_that(): ...\n")
    with pytest.raises(WrongMarkError, match="test_that"):
        list(marked_faults(tmp_path))
