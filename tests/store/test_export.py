"""Copies of a series: whole, wherever it lies, also while the node works on it."""

from datetime import timedelta
from pathlib import Path

import pytest
from spool_contents import NOW, SERIES, files, header, part10, quarantined_series

from iscl_node.store.leaving import export as module
from iscl_node.store.leaving.export import export
from iscl_node.store.spool import Spool


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_all_that_is_here_of_a_series_is_copied(spool: Spool, tmp_path: Path) -> None:
    quarantined = quarantined_series(spool)
    spool.store(header("1.2.3.2"), part10(b"b"))
    closed = spool.close(SERIES, NOW + timedelta(hours=1))
    spool.write_derived(closed, "2.25.1", "2.25.2", b"derived")
    spool.store(header("1.2.3.3"), part10(b"c"))
    spool.store(header("1.2.4.1", "1.2.4"), part10(b"d"))
    before = files(spool)

    copied = export(spool.root, SERIES, tmp_path / "made" / "copy")

    names = {"open": 1, f"closed-{closed.key}": 2, f"quarantine-{quarantined.key}": 2}
    assert copied == names
    assert tree(tmp_path / "made") == sorted(
        f"copy/{name}"
        for name in (
            "open/1.2.3.3.dcm",
            f"closed-{closed.key}/1.2.3.2.dcm",
            f"closed-{closed.key}/derived/2.25.1/2.25.2.dcm",
            f"quarantine-{quarantined.key}/1.2.3.1.dcm",
            f"quarantine-{quarantined.key}/reason.txt",
        )
    )
    assert (tmp_path / "made/copy/open/1.2.3.3.dcm").read_bytes() == part10(b"c")
    assert (tmp_path / "made/copy").stat().st_mode & 0o077 == 0
    assert files(spool) == before


def test_what_is_not_here_makes_no_folder(spool: Spool, tmp_path: Path) -> None:
    assert export(spool.root, SERIES, tmp_path / "copy") == {}
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]


@pytest.mark.parametrize(
    ("series", "target", "fault"),
    [("../1.2.3", "copy", "not a UID"), (SERIES, "spool/copy", "in the spool"), (SERIES, ".", "is there already")],
)
def test_what_cannot_be_copied_is_told(spool: Spool, tmp_path: Path, series: str, target: str, fault: str) -> None:
    quarantined_series(spool)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=fault):
        export(spool.root, series, tmp_path / target)
    assert tree(tmp_path) == before


@pytest.mark.fault("spool", "a series moves while it is exported", "it is copied whole")
def test_a_series_that_moves_meanwhile_is_copied_whole(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = quarantined_series(spool)
    copy = module._copy
    moved = iter([lambda: spool.requeue(SERIES, NOW + timedelta(hours=1))])

    def move_first(source: Path, target: Path) -> int:
        next(moved, list)()
        return copy(source, target)

    monkeypatch.setattr(module, "_copy", move_first)
    copied = export(spool.root, SERIES, tmp_path / "copy")
    (closed,) = spool.closed_batches()
    assert closed != batch
    assert copied == {f"closed-{closed.key}": 1}
    assert tree(tmp_path / "copy") == [f"closed-{closed.key}/1.2.3.1.dcm"]


@pytest.mark.fault("spool", "the disk is full during an export", "an error, and no half copy")
def test_a_full_disk_leaves_nothing_behind(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    quarantined_series(spool)
    monkeypatch.setattr(module, "write_synced", full)
    with pytest.raises(OSError, match="No space"):
        export(spool.root, SERIES, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]
