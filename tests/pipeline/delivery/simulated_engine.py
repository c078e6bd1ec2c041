"""The workflow engine in memory, with a clock that stands still: what the node relies on, and no more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from iscl_node.errors import IsclNodeError
from iscl_node.pipeline.engine.queues import Queue
from iscl_node.pipeline.engine.words import UnknownWorkflowError, Work
from iscl_node.retry import Backoff

MODULES = ("workflows.batch", "workflows.reconcile", "workflows.commitment_reports")
BACKOFF = Backoff(5, 900)


class Killed(BaseException):
    """The process is gone."""


class PutOff(BaseException):
    """A step is to be tried again after a wait: the real engine knows nothing of it, because it waits in the step."""


@dataclass
class Row:
    """A workflow."""

    identity: str
    name: str
    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    due: float
    slot: tuple[str, str | None, int | None]
    is_delayed: bool = False
    has_begun: bool = False
    has_ended: bool = False
    tries: int = 0
    steps: list[Any] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    at: int = 0


@dataclass
class Clock:
    """Both clocks of the machine, in seconds."""

    now: float = 1_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time


class SimulatedEngine:
    """Rows that survive everything but `lose`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.instance: object = None
        """The workflows' object; another one after a restart."""
        self.put_off: list[str] = []
        """Why steps were put off."""
        self.is_twice = False
        """Whether each step is done twice, as if the process had been killed before the first was recorded."""
        self.fails_at = ""
        """A step of this name is not recorded, once: the database refuses it, and the workflow ends with an error."""
        self._running: Row | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the real one's place in the node's modules."""
        for module in MODULES:
            for name in ("enqueue", "message", "send_message", "step", "wake", "under_way", "find"):
                monkeypatch.setattr(f"iscl_node.pipeline.{module}.{name}", getattr(self, name), raising=False)

    def enqueue(
        self,
        queue: Queue,
        identity: str,
        work: Any,
        *arguments: Any,
        partition: str | None = None,
        priority: int | None = None,
        delay_seconds: float | None = None,
    ) -> None:
        assert (queue.partition_concurrency is None) == (partition is None)
        name = work.__wrapped__.__name__
        names = {"run": "series", "deliver": "delivery", "confirm": "confirmation"}
        due = self.clock.now + (delay_seconds or 0)
        slot = queue.name, partition, queue.partition_concurrency
        row = Row(identity, names.get(name, name), lambda *a: work.__wrapped__(self.instance, *a), arguments, due, slot)
        row.is_delayed = bool(delay_seconds)
        self.rows.setdefault(identity, row)

    def step(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        def done() -> Any:
            if self.is_twice:
                work(*arguments)
            result = work(*arguments)
            if name == self.fails_at:
                self.fails_at = ""
                raise OperationalError("INSERT", {}, Exception("the record of a step is refused"))
            return result

        return self._recorded(done)

    def message(self, _topic: str) -> Any:
        row = self._running
        assert row is not None
        return self._recorded(lambda: row.messages.pop(0) if row.messages else None)

    def _recorded(self, work: Callable[[], Any]) -> Any:
        row = self._running
        assert row is not None
        if row.at == len(row.steps):
            try:
                row.steps.append((work(), None))
            except IsclNodeError as error:
                row.steps.append((None, error))
        result, error = row.steps[row.at]
        row.at += 1
        if error is not None:
            raise error
        return result

    def send_message(self, identity: str, _topic: str, value: Any, key: str | None = None) -> None:
        if identity not in self.rows:
            raise UnknownWorkflowError(identity)
        self.rows[identity].messages.append(value)

    def wake(self, identity: str, seconds: float = 0) -> None:
        if identity in self.rows:
            row = self.rows[identity]
            if row.is_delayed:
                row.due, row.is_delayed = self.clock.now + seconds, seconds > 0

    def under_way(self, names: Sequence[str] | None = None, identity: str | None = None) -> list[Work]:
        rows = [row for row in self.rows.values() if not row.has_ended]
        rows = [row for row in rows if (not names or row.name in names) and identity in (None, row.identity)]
        return [Work(row.identity, row.name, row.arguments, row.due if row.is_delayed else None) for row in rows]

    def find(self, identity: str) -> Work | None:
        row = self.rows.get(identity)
        return Work(identity, row.name, row.arguments, None) if row else None

    def run_due(self) -> None:
        """Run what is due until nothing is; a step that asks for a later try has its row run again after a wait."""
        while due := [row for row in self.rows.values() if self._is_its_turn(row)]:
            self._run(min(due, key=lambda each: each.due))

    def _is_its_turn(self, row: Row) -> bool:
        if row.has_ended or row.due > self.clock.now:
            return False
        running = [
            each for each in self.rows.values() if each.slot == row.slot and each.has_begun and not each.has_ended
        ]
        limit = row.slot[2]
        return row.has_begun or limit is None or len(running) < limit

    def _run(self, row: Row) -> None:
        row.at, row.is_delayed, row.has_begun, self._running = 0, False, True, row
        try:
            row.run(*row.arguments)
            row.has_ended = True
        except OperationalError:
            row.has_ended = True
        except PutOff as error:
            self.put_off.append(str(error))
            row.due = self.clock.now + BACKOFF.wait_seconds(row.tries)
            row.tries += 1
        finally:
            self._running = None

    def lose(self) -> None:
        """The database is gone."""
        self.rows.clear()
