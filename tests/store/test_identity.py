"""A spool is known again, and another one in its place is not taken for it."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from spool_contents import header, part10

from iscl_node.errors import ConfigurationError
from iscl_node.store.durable import replace_synced
from iscl_node.store.identity import IDENTITY_FILE, adopt, settle_identity, spool_id
from iscl_node.store.spool import Spool

VERSION = "1.2.3"


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "node.spool"


def test_a_first_start_makes_a_spool_that_is_known_again(tmp_path: Path, memory: Path) -> None:
    root = tmp_path / "spool"
    first = settle_identity(root, memory, VERSION)
    assert memory.read_text() == f"{first}\n"
    entry = json.loads((root / IDENTITY_FILE).read_bytes())
    assert (entry["id"], entry["version"]) == (first, VERSION)
    assert settle_identity(root, memory, VERSION) == first
    assert root.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("leftover", ["lost+found", "0123.part"])
def test_an_empty_disk_or_a_killed_first_start_is_a_first_start(tmp_path: Path, memory: Path, leftover: str) -> None:
    (tmp_path / "spool" / leftover).mkdir(parents=True)
    assert settle_identity(tmp_path / "spool", memory, VERSION)


@pytest.mark.fault(
    "spool",
    "the disk of the spool is not mounted at the start, or another one is",
    "exit code 2 and the question whether it is mounted; no new spool is made",
)
@pytest.mark.parametrize("there", ["nothing", "an empty folder", "another spool"])
def test_a_spool_that_was_there_and_is_not_is_not_made_anew(tmp_path: Path, memory: Path, there: str) -> None:
    root = tmp_path / "spool"
    settle_identity(root, memory, VERSION)
    root.rename(tmp_path / "unmounted")
    if there == "an empty folder":
        root.mkdir()
    elif there == "another spool":
        adopt(root, tmp_path / "other", VERSION)
    before = [str(path) for path in tmp_path.rglob("*")]
    with pytest.raises(ConfigurationError, match="mounted"):
        settle_identity(root, memory, VERSION)
    assert [str(path) for path in tmp_path.rglob("*")] == before


def test_init_takes_another_spool_in_its_place(tmp_path: Path, memory: Path) -> None:
    root = tmp_path / "spool"
    first = settle_identity(root, memory, VERSION)
    shutil.rmtree(root)
    second = adopt(root, memory, VERSION)
    assert second != first
    assert settle_identity(root, memory, VERSION) == second == adopt(root, memory, VERSION)


def test_a_spool_of_an_earlier_release_gets_its_id_once(tmp_path: Path, memory: Path) -> None:
    spool = Spool.open(tmp_path / "spool", 0)
    spool.store(header(), part10(b"a"))
    first = settle_identity(spool.root, memory, VERSION)
    assert settle_identity(spool.root, memory, VERSION) == first
    assert list(spool.quiet_series(1e12, 0)) == ["1.2.3"]


@pytest.mark.fault("spool", "spool_dir names a folder of something else", "exit code 2; nothing is written there")
def test_a_folder_of_something_else_is_refused(tmp_path: Path, memory: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("")
    for start in (settle_identity, adopt):
        with pytest.raises(ConfigurationError, match="neither a spool nor empty"):
            start(tmp_path / "home", memory, VERSION)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.tex"]
    assert not memory.exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_a_damaged_identity_is_told(tmp_path: Path, memory: Path, content: bytes) -> None:
    root = tmp_path / "spool"
    settle_identity(root, memory, VERSION)
    replace_synced(root / IDENTITY_FILE, content)
    with pytest.raises(ConfigurationError, match=r"spool\.json cannot be read"):
        settle_identity(root, memory, VERSION)


def test_without_a_place_for_the_memory_the_node_starts(tmp_path: Path) -> None:
    memory = tmp_path / "gone" / "node.spool"
    assert settle_identity(tmp_path / "spool", memory, VERSION) == spool_id(tmp_path / "spool")
    assert not memory.exists()


def test_a_memory_that_cannot_be_read_is_told(tmp_path: Path, memory: Path) -> None:
    memory.mkdir()
    with pytest.raises(ConfigurationError, match="names the spool"):
        settle_identity(tmp_path / "spool", memory, VERSION)


# Modes


@pytest.mark.fault(
    "spool",
    "others may read or write the spool",
    "the mode is corrected with a line of the log, or, where that is not possible, exit code 2",
)
@pytest.mark.parametrize(("mode", "corrected"), [(0o777, 0o750), (0o755, 0o750), (0o750, 0o750), (0o700, 0o700)])
def test_modes_are_corrected(tmp_path: Path, memory: Path, mode: int, corrected: int) -> None:
    root = tmp_path / "spool"
    root.mkdir()
    root.chmod(mode)
    settle_identity(root, memory, VERSION)
    assert root.stat().st_mode & 0o777 == corrected


def test_a_mode_that_cannot_be_corrected_is_refused(
    tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, mode: int) -> None:
        raise PermissionError(1, os.strerror(1))

    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "spool").chmod(0o755)
    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(ConfigurationError, match=r"mode 0755.* belongs to user .* name a folder below it .*chmod 0750"):
        settle_identity(tmp_path / "spool", memory, VERSION)


def test_a_disk_that_refuses_the_identity_is_told(
    tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        settle_identity(tmp_path / "spool", memory, VERSION)


def test_a_file_system_without_hard_links_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(ConfigurationError, match="without hard links"):
        settle_identity(tmp_path / "spool", tmp_path / "node.spool", "1")
    assert not [path for path in (tmp_path / "spool").iterdir() if path.suffix == ".part"]
