"""Two processes receive into one spool."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from spool_contents import SERIES, part10
from surroundings import REPOSITORY

from iscl_node.domain import Arrival
from iscl_node.store.spool import Spool

INSTANCES = 200


def receiver(spool: Spool, name: str, content: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("receiver.py")), str(spool.root), name, content]
    path = os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])
    environment = os.environ | {"PYTHONPATH": path}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert line_of(process) == "ready"
    return process


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


@pytest.mark.fault(
    "reception",
    "two receivers on one spool get different data sets under one UID at the same time",
    "one keeps the name, the other is a conflict in quarantine; neither is overwritten",
)
def test_two_receivers_never_overwrite_each_other(spool: Spool) -> None:
    pair = [receiver(spool, name, content) for name, content in (("one", "a"), ("two", "b"))]
    for number in range(INSTANCES):
        for process in pair:
            tell(process, f"1.2.3.{number}")
        outcomes = [line_of(process) for process in pair]
        assert sorted(outcomes) == sorted([Arrival.NEW.value, Arrival.CONFLICT.value])
        winner = b"a" if outcomes[0] == Arrival.NEW.value else b"b"
        assert (spool.root / "open" / SERIES / f"1.2.3.{number}.dcm").read_bytes() == part10(winner)
    for process in pair:
        process.communicate()
    assert {path.read_bytes() for path in spool.root.rglob("*.dcm")} == {part10(b"a"), part10(b"b")}
    assert len(list(spool.root.rglob("*.dcm"))) == 2 * INSTANCES


@pytest.mark.fault(
    "reception", "a receiver starts while another one is receiving", "it clears what it left itself, and nothing else"
)
def test_a_receiver_clears_its_own_folder_only(tmp_path: Path) -> None:
    one, two = Spool.open(tmp_path / "spool", 0, "one"), Spool.open(tmp_path / "spool", 0, "two")
    halves = []
    for folder in sorted((one.root / "receiving").iterdir()):
        halves.append(folder / "half.part")
        halves[-1].write_bytes(b"half an instance")
    assert one.recover() == 1
    assert sorted(half.exists() for half in halves) == [False, True]
    assert two.recover() == 1


def test_names_that_differ_in_odd_characters_have_folders_of_their_own(tmp_path: Path) -> None:
    for name in ("../one", "one/..", "ONE", "one"):
        Spool.open(tmp_path / "spool", 0, name)
    assert len(list((tmp_path / "spool" / "receiving").iterdir())) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]
