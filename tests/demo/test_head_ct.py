"""Where the head CT comes from, and how it is read."""

import io
import plistlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from iscl_node.demo import head_ct
from iscl_node.demo.failure import DemoError
from iscl_node.demo.head_ct import HeadCt, obtain_head_ct, read_invesalius, read_slice

DEBIAN_PLACE = "downloads/invesalius-examples/usr/share/doc/invesalius-examples/examples/Cranium.inv3"


def write_project(path: Path, content: np.ndarray, **facts: object) -> Path:
    """A project of InVesalius with nothing but the matrix."""
    described = {
        "matrix": {"dtype": "int16", "filename": "matrix.dat", "shape": list(content.shape)},
        "spacing": [0.9, 0.8, 1.5],
        **facts,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in {"main.plist": plistlib.dumps(described), "matrix.dat": content.tobytes()}.items():
            member = tarfile.TarInfo(f"tmpabc/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


@pytest.fixture
def matrix() -> np.ndarray:
    return np.arange(2 * 3 * 4, dtype="<i2").reshape(2, 3, 4) - 10


def test_a_project_is_read_with_its_rows_from_the_front(tmp_path: Path, matrix: np.ndarray) -> None:
    head = read_invesalius(write_project(tmp_path / "small.inv3", matrix))

    np.testing.assert_array_equal(head.volume_hu, matrix[:, ::-1])
    assert head.spacing_mm == (1.5, 0.8, 0.9)


def test_a_matrix_of_another_size_is_refused(tmp_path: Path, matrix: np.ndarray) -> None:
    shape = {"dtype": "int16", "filename": "matrix.dat", "shape": [9, 9, 9]}
    with pytest.raises(DemoError, match="no CT project"):
        read_invesalius(write_project(tmp_path / "small.inv3", matrix, matrix=shape))


def test_a_file_that_is_no_project_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.inv3").write_text("not a tar")
    with pytest.raises(DemoError, match="no CT project"):
        read_invesalius(tmp_path / "text.inv3")


def test_what_an_earlier_run_downloaded_is_taken(tmp_path: Path, matrix: np.ndarray) -> None:
    write_project(tmp_path / DEBIAN_PLACE, matrix)
    notes: list[str] = []

    head = obtain_head_ct(tmp_path / "downloads", notes.append)

    assert "Debian" in head.origin
    assert not notes


def test_without_debian_the_slice_of_pypi_is_taken_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_program(command: list[str], folder: Path) -> None:
        raise DemoError(f"{command[0]}: not found")

    monkeypatch.setattr(head_ct, "_run", no_program)
    monkeypatch.setattr(head_ct, "_pypi_slice", lambda _folder: Path(str(get_testdata_file("CT_small.dcm"))))
    notes: list[str] = []

    head = obtain_head_ct(tmp_path, notes.append)

    assert head.volume_hu.shape == (1, 128, 128)
    assert "PyPI" in head.origin
    assert "apt-get: not found" in notes[0]


def test_padding_of_a_slice_becomes_air() -> None:
    head = read_slice(Path(str(get_testdata_file("CT_small.dcm"))))

    assert head.volume_hu.dtype == np.int16
    assert head.volume_hu.min() >= -1024


@pytest.mark.parametrize(("count", "first", "kept"), [(None, 0, 6), (2, 2, 2), (5, 0, 5), (9, 0, 6)])
def test_the_middle_is_kept(head: HeadCt, count: int | None, first: int, kept: int) -> None:
    np.testing.assert_array_equal(head.middle(count).volume_hu, head.volume_hu[first : first + kept])


def test_a_command_that_fails_says_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="bash failed: second"):
        head_ct._run(["bash", "-c", "echo first >&2; echo second >&2; exit 3"], tmp_path)
