"""Words that went, for plain ones: in code, comments, docstrings, log, labels, alerts and pages."""

import io
import re
import tokenize
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
"""Each with what is said now; not even in a name of the code."""

IN_PROSE = {
    "told": "reported, logged, written, said",
    "tells": "says, shows, reports",
    "begun": "started, planned",
    "whatever": "any, all, or the case itself",
    "whoever": "the caller, the process that ...",
    "meanwhile": "nothing, or what happened",
    "lacking": "missing",
    "forgotten": "deleted, dropped, not recorded",
    "in hand": "running",
    "nobody need": "no action is needed",
    "nobody knows": "is unknown",
}
"""Each with what is said now, in sentences: comments, docstrings, pages and other texts."""

CODE = [*(REPOSITORY / "iscl_node").rglob("*.py")]
TEMPLATES = [*(REPOSITORY / "iscl_node").rglob("*.html")]
PAGES = [
    *(REPOSITORY / "docs").glob("*.md"),
    *(REPOSITORY / "config").iterdir(),
    *(REPOSITORY / "docker").iterdir(),
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "CHANGELOG.md",
]


def found(text: str, words: dict[str, str]) -> set[str]:
    """Those of the words that are in a text, also in the plural and as a part of a name."""
    return {word for word in words if re.search(rf"(?<![a-z]){word}(s|ed|ing)?(?![a-z])", text.lower())}


def prose(code: str) -> str:
    """Comments and strings of Python code without what is in braces: names of its variables."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    texts = [token.string for token in tokens if token.type in kinds and len(token.string.split()) > 1]
    return re.sub(r"\{[^{}]*\}", "", re.sub(r"^\s+\w+ : .*$", "", "\n".join(texts), flags=re.MULTILINE))


def text_of(path: Path) -> str:
    """A text; the changelog may quote a name that went, and the page of faults names of tests."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"`[^`]*`|\]\([^)]*\)", "", text) if path.name in ("CHANGELOG.md", "reliability.md") else text


def named(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("path", [*CODE, *TEMPLATES, *PAGES], ids=named)
def test_a_word_that_went_stays_away(path: Path) -> None:
    words = found(text_of(path), INSTEAD)
    assert not words, {word: INSTEAD[word] for word in words}


@pytest.mark.parametrize("path", CODE, ids=named)
def test_a_sentence_of_the_code_says_it_plainly(path: Path) -> None:
    words = found(prose(path.read_text(encoding="utf-8")), IN_PROSE)
    assert not words, {word: IN_PROSE[word] for word in words}


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_page_says_it_plainly(path: Path) -> None:
    words = found(text_of(path), IN_PROSE)
    assert not words, {word: IN_PROSE[word] for word in words}


@pytest.mark.parametrize("text", ["A chore.", "def _tend(self)", "SWEEPS", "peer.asked_in_vain", "a stranded_workflow"])
def test_a_planted_word_is_found(text: str) -> None:
    assert found(text, INSTEAD)
    assert not found("what intends, or extends, a ten; chorus; impatience", INSTEAD)


@pytest.mark.parametrize("text", ["told = 1  # it is told", '"""Begun anew."""', "x = f'{a} is told {b}'"])
def test_a_planted_sentence_is_found(text: str) -> None:
    assert found(prose(text), IN_PROSE)
    assert not found(prose("told = f'it is {told}'\nbegun(told)  # it started"), IN_PROSE)
