"""Words that went, for plain ones: in code, comments, docstrings, log, labels, alerts and pages."""

import re
from pathlib import Path

import pytest
from surroundings import REPOSITORY

INSTEAD = {
    "chore": "task",
    "inquiry": "question, ask",
    "patience": "deadline",
    "settlement": "conclude, end",
    "stranded": "reconcile",
    "sweep": "clean up",
    "tend": "reconcile",
    "asked_in_vain": "query_failed",
}
"""Each with what is said now."""

FILES = [
    *(REPOSITORY / "iscl_node").rglob("*.py"),
    *(REPOSITORY / "iscl_node").rglob("*.html"),
    *(path for path in (REPOSITORY / "docs").glob("*.md") if path.name != "reliability.md"),  # the tests' own words
    *(REPOSITORY / "config").iterdir(),
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
]


def found(text: str) -> set[str]:
    """Those of the words that are in a text, also in the plural and as a part of a name."""
    return {word for word in INSTEAD if re.search(rf"(?<![a-z]){word}(s|ed|ing)?(?![a-z])", text.lower())}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_a_word_that_went_stays_away(path: Path) -> None:
    words = found(path.read_text(encoding="utf-8"))
    assert not words, {word: INSTEAD[word] for word in words}


@pytest.mark.parametrize("text", ["A chore.", "def _tend(self)", "SWEEPS", "peer.asked_in_vain", "a stranded_workflow"])
def test_a_planted_word_is_found(text: str) -> None:
    assert found(text)
    assert not found("what intends, or extends, a ten; chorus; impatience")
