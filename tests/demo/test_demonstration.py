"""The whole demonstration with a small head and a bundle that changes nothing; the node is the real one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from surroundings import required_program
from typer.testing import CliRunner

from iscl_node.cli import app
from iscl_node.demo import demonstration
from iscl_node.demo.archive import ArchiveKind
from iscl_node.demo.demonstration import Demonstrated, Options, demonstrate
from iscl_node.demo.head_ct import HeadCt
from iscl_node.demo.tables import quality_table, stage_table
from iscl_node.demo.workplace import open_workplace
from iscl_node.denoise.bundle_digest import bundle_digest
from iscl_node.errors import ConfigurationError

Show = Callable[..., Demonstrated]


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, text: str) -> None:
        pass


@pytest.fixture
def show(tmp_path: Path, head: HeadCt, identity_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    """Run the demonstration in a folder."""
    monkeypatch.setenv("ISCL_NODE__BUNDLE__PATH", str(identity_bundle))
    monkeypatch.setenv("ISCL_NODE__BUNDLE__DIGEST", bundle_digest(identity_bundle))
    monkeypatch.setattr(demonstration, "_PROCESSES", 1)
    monkeypatch.setenv("ISCL_NODE__SPOOL__MIN_FREE_BYTES", "0")

    def run(kind: ArchiveKind = ArchiveKind.EMBEDDED) -> Demonstrated:
        return demonstrate(Options(tmp_path / "demo", kind, 0.25), Listener(), lambda _folder, _note: head)

    return run


def derived_files(result: Demonstrated) -> list[Path]:
    return sorted(result.workplace.archive.rglob("*.dcm"))


def test_the_derived_series_is_complete_and_measured(show: Show) -> None:
    result = show()

    sources = {dcmread(path).SOPInstanceUID for path in result.workplace.low_dose.rglob("*.dcm")}
    derived = [dcmread(path) for path in derived_files(result)]
    assert {each.SourceImageSequence[0].ReferencedSOPInstanceUID for each in derived} == sources
    assert len(derived) == result.slices == 6
    assert result.before == result.after  # the bundle changes nothing
    assert result.before.noise_hu > 0.5
    assert result.workplace.report.read_bytes().startswith(b"\x89PNG")
    assert stage_table(result).row_count > 5
    assert quality_table(result).row_count == 6


def test_orthanc_takes_the_series(show: Show) -> None:
    if shutil.which("Orthanc", path="/usr/sbin:/usr/bin") is None:
        required_program("Orthanc", "orthanc")
    assert len(derived_files(show(ArchiveKind.ORTHANC))) == 6


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    with pytest.raises(ConfigurationError, match="something else"):
        open_workplace(tmp_path)
    assert (tmp_path / "archive").is_dir()


def test_a_second_run_keeps_the_downloads_only(tmp_path: Path) -> None:
    place = open_workplace(tmp_path / "demo")
    for folder in (place.downloads, place.spool, place.low_dose):
        folder.mkdir()
    place.report.touch()

    open_workplace(tmp_path / "demo")

    assert place.downloads.is_dir()
    assert not place.spool.exists()
    assert not place.low_dose.exists()
    assert not place.report.exists()


def test_an_unknown_archive_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path / "demo"), "--archive", "shelf"])
    assert result.exit_code == 2
    assert "embedded or orthanc" in result.output
