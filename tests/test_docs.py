"""What an administrator reads: short enough, and true in all that a program can check.

``python tests/test_docs.py`` prints the words of each page.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry
from settings_page import page as settings_page
from surroundings import REPOSITORY

from iscl_node.cli import app
from iscl_node.metrics import Metrics

GENERATED = {"conformance.md", "compatibility.md", "reliability.md", "settings.md"}
"""Written by programs, each with a test of its own."""

READ = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *(page for page in sorted((REPOSITORY / "docs").glob("*.md")) if page.name not in GENERATED),
]
"""What people wrote, for people to read."""

PAGES = sorted({*READ, *(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "CHANGELOG.md"})
MOST_WORDS = 15_000
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def words(page: Path) -> int:
    """Words of a page; the bars of tables are none."""
    return sum(any(map(str.isalnum, word)) for word in text_of(page).split())


def anchors(page: Path) -> set[str]:
    """What may stand behind # in a link to a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Links of a page into the repository that lead nowhere."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(page))):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def commands(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Every ``iscl-node`` command with its options that some texts name."""
    found = set()
    for text in texts:
        for line in re.findall(r"\biscl-node ([a-z]+[^\n`|]*)", text):
            command = line.partition("#")[0].partition("\\")[0]
            found.add((command.split()[0], *re.findall(r"(?<![\w-])--[a-z][\w-]*", command)))
    return found


def test_an_hour_is_enough_to_read_it() -> None:
    counted = {named(page): words(page) for page in READ}
    assert sum(counted.values()) <= MOST_WORDS, counted


def test_the_readme_is_two_screens() -> None:
    assert len(text_of(REPOSITORY / "README.md").splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken_links(page)


def test_a_planted_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A b\n[here](#a-b) [there](#c) [far](other.md) [out](https://example.org)\n")
    assert broken_links(page) == ["#c", "other.md"]


def test_settings_page_is_what_the_program_reads() -> None:
    assert text_of(REPOSITORY / "docs" / "settings.md") == settings_page(), (
        "run: python tests/settings_page.py > docs/settings.md"
    )


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_of_a_page_is_there(page: Path) -> None:
    known = typer.main.get_command(app)
    subcommands: Mapping[str, typer.core.TyperCommand] = known.commands  # type: ignore[attr-defined]
    for name, *options in commands(
        re.findall(r"`([^`]+)`", text_of(page)) + [c for _, c in FENCE.findall(text_of(page))]
    ):
        assert name in subcommands, name
        there = {option for parameter in subcommands[name].params for option in parameter.opts}
        assert set(options) <= there, (name, options)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_make_target_of_a_page_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(REPOSITORY / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text_of(page))) <= targets


@pytest.mark.parametrize("page", READ, ids=named)
def test_every_setting_of_a_page_is_there(page: Path) -> None:
    for section, keys in re.findall(r"`\[+([a-z.]+)\]+ ([a-z_]+)(?: = [^`]*)?`", text_of(page)):
        keys_there = _keys(section)
        assert keys in keys_there, f"[{section}] {keys}"


def _keys(section: str) -> set[str]:
    text = text_of(REPOSITORY / "docs" / "settings.md")
    table, _, inner = section.partition(".")
    part = re.search(rf"^## `\[+{table}\]+`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert part, section
    keys = re.findall(r"^\| `([^`]+)` \|", part[1], re.MULTILINE)
    parents = {key.partition(".")[0] for key in keys} | {"users"}
    return {key.removeprefix(f"{inner}.") for key in keys if key.startswith(inner)} | parents


@pytest.mark.parametrize("page", READ, ids=named)
def test_every_alert_metric_and_event_of_a_page_is_there(page: Path) -> None:
    text = text_of(page)
    alerts = yaml.safe_load(text_of(REPOSITORY / "config" / "alerts.yml"))
    names = {rule["alert"] for group in alerts["groups"] for rule in group["rules"]}
    assert set(re.findall(r"`(IsclNode[A-Z]\w+)`", text)) <= names
    registry = CollectorRegistry()
    Metrics(registry)
    metrics = {family.name for family in registry.collect()}
    for metric in re.findall(r"`(iscl_node_[a-z_]+)(?:\{[^`]*)?`", text):
        assert metric.removesuffix("_total") in metrics, metric
    sources = "\n".join(text_of(file) for file in (REPOSITORY / "iscl_node").rglob("*.py"))
    for event in re.findall(r"\b(?:log|logs|logged)\b[^`|.]*`([a-z]+\.[a-z_]+)`", text):
        assert f'"{event}"' in sources, event


if __name__ == "__main__":
    for read in READ:
        print(f"{words(read):6d}  {named(read)}")  # noqa: T201
    print(f"{sum(map(words, READ)):6d}  in all, of at most {MOST_WORDS}")  # noqa: T201
