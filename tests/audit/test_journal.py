"""The journal keeps messages in their order through kills, full disks and several writers, and within its bound."""

import contextlib
import errno
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iscl_node.audit import journal as journal_module
from iscl_node.audit.journal import Journal, Position
from iscl_node.audit.trail import appending_to

LIMIT = 1 << 20


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "audit", LIMIT)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_FILE_BYTES", 100)


def lines(journal: Journal, start: Position | None = None) -> list[bytes]:
    return [line for _, line in journal.messages(start or journal.position(), 10_000)]


def test_messages_come_out_in_their_order(journal: Journal, small_files: None) -> None:
    written = [b"message %d" % number for number in range(50)]
    for line in written:
        journal.append(line)
    assert lines(journal) == written
    assert len(list(journal._folder.glob("*.log"))) > 3


def test_what_was_sent_is_remembered_and_removed(journal: Journal, small_files: None) -> None:
    written = [b"message %d" % number for number in range(50)]
    for line in written:
        journal.append(line)
    for sent in range(1, 51):
        journal.mark_sent(journal.messages(journal.position(), 1)[0][0])
        assert lines(Journal(journal._folder, LIMIT)) == written[sent:]
    assert len(list(journal._folder.glob("*.log"))) == 1
    assert journal.bytes_behind(journal.position()) == 0
    journal.append(b"one more")
    assert lines(journal) == [b"one more"]
    assert journal.bytes_behind(journal.position()) == len(b"one more\n")


def test_files_that_a_person_removed_do_not_hide_later_messages(journal: Journal) -> None:
    for number in range(5):
        journal.append(b"message %d" % number)
    journal.mark_sent(journal.messages(Position(), 5)[-1][0])
    for file in journal._folder.glob("*.log"):
        file.unlink()
    journal.append(b"later")
    assert lines(journal) == [b"later"]


@pytest.mark.fault(
    "machine",
    "`kill -9` in the middle of writing an audit message",
    "the whole ones stay, and the next one follows them",
)
@pytest.mark.parametrize("torn", [b"half a mess", b"x" * 200_000])
def test_half_a_message_is_cut_off(journal: Journal, torn: bytes) -> None:
    journal.append(b"first")
    with next(journal._folder.glob("*.log")).open("ab") as file:
        file.write(torn)
    assert lines(journal) == [b"first"]
    journal.append(b"second")
    assert lines(journal) == [b"first", b"second"]


@pytest.mark.parametrize("torn", [b"half", b"half a message that is longer than the next one"])
def test_half_a_message_is_cut_off_where_nothing_is_before_it(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "trail.log"
    file.write_bytes(torn)
    appending_to(file, LIMIT)(b"whole")
    assert file.read_bytes() == b"whole\n"


@pytest.mark.fault(
    "machine",
    "the audit messages that wait reach their limit",
    "those that were recorded first stay; further ones are counted as lost, with an alert and a message in the trail",
)
def test_the_limit_keeps_what_was_recorded_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "audit", 40)
    file = appending_to(tmp_path / "trail.log", 40)
    for append in (journal.append, file):
        for number in range(4):
            append(b"message %d" % number)
        with pytest.raises(OSError, match="quota") as refused:
            append(b"message 4")
        assert refused.value.errno == errno.EDQUOT
    assert lines(journal) == (tmp_path / "trail.log").read_bytes().splitlines()
    assert lines(journal) == [b"message %d" % number for number in range(4)]


@contextlib.contextmanager
def failing(name: str, at: int) -> Iterator[None]:
    """The disk is full at this call of a function of `os`; a part of a write is done."""
    calls = iter(range(1_000))
    real: Callable[..., Any] = getattr(os, name)

    def call(*arguments: Any) -> Any:
        if next(calls) == at:
            if name == "pwrite":
                real(arguments[0], bytes(arguments[1])[:3], arguments[2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, call)
        yield


@pytest.mark.parametrize("name", ["pwrite", "fsync"])
@pytest.mark.fault(
    "machine", "the disk is full while an audit message is written", "nothing of it is there; it is tried again"
)
def test_a_full_disk_leaves_nothing_of_a_message(journal: Journal, name: str) -> None:
    journal.append(b"first")
    with failing(name, 0), pytest.raises(OSError, match="No space"):
        journal.append(b"second")
    assert lines(journal) == [b"first"]
    journal.append(b"second")
    assert lines(journal) == [b"first", b"second"]


def test_threads_and_processes_do_not_mix_their_messages(journal: Journal, small_files: None) -> None:
    code = (
        "import sys; from pathlib import Path; from iscl_node.audit.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), 1 << 20)\n"
        "for number in range(200): journal.append(b'process %d' % number)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(journal._folder)])
    deadline = time.monotonic() + 60
    while not lines(journal):  # both write at the same time
        assert time.monotonic() < deadline
    threads = [
        threading.Thread(target=lambda name=name: [journal.append(b"%b %d" % (name, n)) for n in range(100)])
        for name in (b"one", b"two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.wait() == 0
    found = lines(journal)
    for name, count in ((b"one", 100), (b"two", 100), (b"process", 200)):
        assert [line for line in found if line.startswith(name)] == [b"%b %d" % (name, n) for n in range(count)]


def test_a_command_and_the_node_do_not_mix_their_messages_in_the_file(tmp_path: Path) -> None:
    """Each has its own function; one of them must not take the other's half line for what a kill left."""

    def write(name: bytes) -> None:
        append = appending_to(tmp_path / "trail.log", LIMIT)
        for number in range(100):
            append(b"%b %d" % (name, number))

    names = (b"one", b"two", b"three")
    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = (tmp_path / "trail.log").read_bytes().splitlines()
    for name in names:
        assert [line for line in found if line.startswith(name)] == [b"%b %d" % (name, n) for n in range(100)]


def test_a_file_of_somebody_else_in_the_folder_is_left_alone(journal: Journal) -> None:
    journal.append(b"first")
    (journal._folder / "rotate.log").write_bytes(b"no number\n")
    journal.append(b"second")
    assert lines(journal) == [b"first", b"second"]


def test_only_the_owner_may_read_it(journal: Journal, tmp_path: Path) -> None:
    journal.append(b"first")
    appending_to(tmp_path / "trail.log", LIMIT)(b"first")
    modes = {path.name: path.stat().st_mode & 0o777 for path in [*journal._folder.iterdir(), tmp_path / "trail.log"]}
    assert set(modes.values()) == {0o600}, modes
    assert journal._folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "1", "one 2", "1 2 3"])
def test_a_position_that_cannot_be_read_sends_all_again(journal: Journal, text: str) -> None:
    journal.append(b"first")
    (journal._folder / "sent").write_text(text)
    assert lines(journal) == [b"first"]


def test_the_file_may_be_moved_away(tmp_path: Path) -> None:
    append = appending_to(tmp_path / "trail.log", LIMIT)
    append(b"first")
    (tmp_path / "trail.log").rename(tmp_path / "trail.log.1")
    append(b"second")
    assert re.fullmatch(b"second\n", (tmp_path / "trail.log").read_bytes())
