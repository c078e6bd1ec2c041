"""Folders that are looked through again when something in them changed, and not before."""

import os
from pathlib import Path

import pytest

from iscl_node.store import tree
from iscl_node.store.known_folders import KnownFolders

LONG_AGO = 1_700_000_000
"""The time of every folder, well before now."""


def settle(top: Path) -> None:
    for folder, _, _ in os.walk(top):
        os.utime(folder, (LONG_AGO, LONG_AGO))


@pytest.fixture
def top(tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "done"
    (folder / "1.2.3" / "first").mkdir(parents=True)
    (folder / "1.2.3" / "first" / "1.dcm").write_bytes(bytes(10))
    (folder / "1.2.4" / "second").mkdir(parents=True)
    (folder / "note").write_bytes(bytes(5))
    settle(folder)
    return folder


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders that are listed."""
    names: list[str] = []
    contents = tree.contents

    def noted(folder: Path) -> tuple[list[str], int, int]:
        names.append(folder.name)
        return contents(folder)

    monkeypatch.setattr(tree, "contents", noted)
    return names


def test_it_tells_folders_bytes_and_what_is_no_folder(top: Path) -> None:
    found = KnownFolders().look(top)
    assert sorted(found.folders) == ["1.2.3", "1.2.4"]
    assert (found.bytes, found.all_bytes, found.others) == (5, 15, 1)
    assert found.folders["1.2.3"].folders["first"].changed == LONG_AGO


def test_only_what_changed_is_listed_again(top: Path, listed: list[str]) -> None:
    known = KnownFolders()
    known.look(top)
    listed.clear()
    assert known.look(top).all_bytes == 15
    assert listed == []
    (top / "1.2.4" / "second" / "2.dcm").write_bytes(bytes(7))
    os.utime(top / "1.2.4" / "second", (LONG_AGO + 1, LONG_AGO + 1))
    assert known.look(top).all_bytes == 22
    assert listed == ["second"]


def test_what_changed_a_moment_ago_may_change_unseen_and_is_listed_again(top: Path, listed: list[str]) -> None:
    known = KnownFolders(lambda: LONG_AGO + 1)
    known.look(top)
    (top / "1.2.3" / "first" / "2.dcm").write_bytes(bytes(7))
    settle(top)  # as if within the grain of the file system's times
    assert known.look(top).all_bytes == 22


def test_what_is_gone_or_a_link_is_not_told(top: Path) -> None:
    known = KnownFolders()
    known.look(top)
    (top / "1.2.3").rename(top.parent / "elsewhere")
    settle(top)
    assert sorted(known.look(top).folders) == ["1.2.4"]
    assert known.look(top).all_bytes == 5
    (top / "1.2.4").rename(top.parent / "away")
    (top / "1.2.4").symlink_to(top.parent / "elsewhere")
    settle(top)
    found = known.look(top)
    assert (sorted(found.folders), found.all_bytes) == ([], 5)
    top.rename(top.parent / "moved")
    assert known.look(top).all_bytes == 0
    top.symlink_to(top.parent / "moved")
    assert (known.look(top).folders, known.look(top).all_bytes) == ({}, 0)
