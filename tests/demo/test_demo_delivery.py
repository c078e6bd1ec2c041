"""How the demonstration notices that something it started does not work."""

import sys
from pathlib import Path

import pytest

from iscl_node.demo.delivery import wait_for_delivery
from iscl_node.demo.failure import DemoError
from iscl_node.demo.node import Work
from iscl_node.demo.processes import running
from iscl_node.domain import Peer


class Node:
    """A node that says what it is told to say; None is no answer."""

    def __init__(self, *works: Work | None) -> None:
        self._works = list(works)

    def work(self) -> Work | None:
        return self._works.pop(0) if len(self._works) > 1 else self._works[0]

    def failure(self, what: str) -> DemoError:
        return DemoError(what)


class Archive:
    """An archive with one more instance each time it is asked, up to a limit."""

    peer = Peer("archive", "ARCHIVE", "127.0.0.1", 104)

    def __init__(self, limit: int) -> None:
        self._count, self._limit = 0, limit

    def count(self) -> int:
        self._count = min(self._count + 1, self._limit)
        return self._count

    def fetch(self) -> None:
        pass


class Silent:
    """Hears nothing."""

    def note(self, text: str) -> None:
        pass

    def progress(self, text: str) -> None:
        pass


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iscl_node.demo.delivery._POLL_SECONDS", 0.001)


def test_it_waits_until_all_have_arrived() -> None:
    done = Work(3, 1.5, 0)
    assert wait_for_delivery(Node(Work(0, 0.0, 0), None, done), Archive(3), 3, Silent()) == done  # type: ignore[arg-type]


def test_quarantine_ends_the_waiting() -> None:
    with pytest.raises(DemoError, match="quarantine"):
        wait_for_delivery(Node(Work(1, 0.5, 1)), Archive(0), 3, Silent())  # type: ignore[arg-type]


def test_a_stall_ends_the_waiting() -> None:
    with pytest.raises(DemoError, match=r"nothing happened.*1 derived, 2 arrived"):
        wait_for_delivery(Node(Work(1, 0.5, 0)), Archive(2), 3, Silent(), stalled_seconds=0.05)  # type: ignore[arg-type]


def test_a_program_that_ends_is_told_with_its_log(tmp_path: Path) -> None:
    script = "print('no model'); raise SystemExit(2)"
    with (
        pytest.raises(DemoError, match=r"the node ended with exit code 2(.|\n)*no model"),
        running("the node", [sys.executable, "-c", script], tmp_path / "log") as program,
    ):
        program.wait_until(lambda: False, 60)


def test_a_program_is_stopped_at_the_end(tmp_path: Path) -> None:
    with running("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log") as program:
        program.require_alive()
    with pytest.raises(DemoError, match="sleeper ended"):
        program.require_alive()


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="cannot be started"), running("it", ["/no/such/program"], tmp_path / "log"):
        pass
