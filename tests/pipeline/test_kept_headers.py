"""What is known of a file need not be read from it again, until another file has its place or there is no room."""

import os
from pathlib import Path

import pytest
from factories import ct_dataset, part10, soft_tissue

from iscl_node.pipeline.kept_headers import KeptHeaders

SIDE = 128
"""Of the images: pixels of more than 16 KB are not read with the header."""


def written(path: Path, number: int = 0) -> bytes:
    content = part10(ct_dataset(soft_tissue(side=SIDE), PatientID=f"P{number}"))
    path.write_bytes(content)
    return content


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    paths: list[Path] = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *how, **named: (paths.append(path), real(path, *how, **named))[1])
    return paths


def test_what_was_received_is_not_read_again_wherever_it_is_moved(tmp_path: Path, opened: list[Path]) -> None:
    headers, path = KeptHeaders(), tmp_path / "1.dcm"
    headers.keep(path, written(path))
    moved = path.rename(tmp_path / "2.dcm")
    opened.clear()
    instance = headers.instance(moved)
    assert (instance.PatientID, instance.filename) == ("P0", str(moved))
    assert b"P0" in headers.stream(moved).read()
    assert opened == []
    assert len(instance.PixelData) == 2 * SIDE * SIDE


def test_what_is_not_known_is_read_once(tmp_path: Path, opened: list[Path]) -> None:
    headers, path = KeptHeaders(), tmp_path / "1.dcm"
    written(path)
    opened.clear()
    assert [headers.instance(path).PatientID for _ in range(3)] == ["P0"] * 3
    assert opened == [path]


def test_another_file_in_the_place_of_one_is_read(tmp_path: Path) -> None:
    headers, path = KeptHeaders(), tmp_path / "1.dcm"
    headers.keep(path, written(path))
    written(tmp_path / "other.dcm", 1)
    (tmp_path / "other.dcm").replace(path)
    assert headers.instance(path).PatientID == "P1"


def test_a_file_that_was_written_to_is_read(tmp_path: Path) -> None:
    headers, path = KeptHeaders(), tmp_path / "1.dcm"
    headers.keep(path, written(path))
    written(path, 1)
    os.utime(path, ns=(0, 0))
    assert headers.instance(path).PatientID == "P1"


def test_what_moved_on_before_it_could_be_kept_is_read_when_it_is_needed(tmp_path: Path) -> None:
    headers, path = KeptHeaders(), tmp_path / "1.dcm"
    content = written(path)
    moved = path.rename(tmp_path / "2.dcm")
    headers.keep(path, content)
    assert headers.instance(moved).PatientID == "P0"


def test_those_that_were_used_last_are_kept(tmp_path: Path, opened: list[Path]) -> None:
    paths = [tmp_path / f"{number}.dcm" for number in range(4)]
    contents = [written(path, number) for number, path in enumerate(paths)]
    length = len(contents[0]) - 2 * SIDE * SIDE
    headers = KeptHeaders(most_bytes=3 * length)
    for path, content in zip(paths[:3], contents, strict=False):
        headers.keep(path, content)
    headers.instance(paths[0])
    headers.keep(paths[3], contents[3])
    opened.clear()
    assert [headers.instance(paths[number]).PatientID for number in (2, 0, 3, 1)] == ["P2", "P0", "P3", "P1"]
    assert opened == [paths[1]]
