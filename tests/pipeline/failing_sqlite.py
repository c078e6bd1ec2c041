"""SQLite whose disk or lock refuses, at every write or when it is told to."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, ExceptionContext, Pool, event


class Refusals:
    """Decides which writes are refused, and counts them.

    Parameters
    ----------
    message, code : str, int
        How SQLite tells it; https://www.sqlite.org/rescode.html.
    """

    def __init__(self, message: str, code: int) -> None:
        self._message, self._code = message, code
        self._seen: set[tuple[object, ...]] = set()
        self.at_first = self.always = False
        self.steps: set[str] = set()
        """Only these steps' records, if there are any."""
        self.places: list[str] = []

    def write(self, statement: str, parameters: object) -> None:
        """Refuse each write at the first try, or always, or not at all."""
        if not isinstance(parameters, tuple | list):
            parameters = ()
        # Without times and the engine's random tokens, which are others when the same is tried again.
        same = [each for each in parameters if not ((isinstance(each, int) and each > 1e11) or _is_token(each))]
        place = (statement, *map(str, same))
        if self.steps and self.steps.isdisjoint(place):
            return
        if self.always or (self.at_first and place not in self._seen):
            self._seen.add(place)
            self.places.append(statement)
            error = sqlite3.OperationalError(self._message)
            error.sqlite_errorcode = self._code
            raise error


def _is_token(value: object) -> bool:
    return isinstance(value, str) and len(value) == 36 and value.count("-") == 4


@contextmanager
def refusing(refusals: Refusals) -> Iterator[None]:
    """Every connection to SQLite that is made from now on asks before it writes."""

    class Cursor(sqlite3.Cursor):
        def execute(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
            if statement.split(None, 1)[0] in ("INSERT", "UPDATE", "DELETE"):
                self.connection.last = (statement, parameters)  # type: ignore[attr-defined]
                refusals.write(statement, parameters)
            return super().execute(statement, parameters)

    class Connection(sqlite3.Connection):
        last: tuple[str, object] = ("", ())

        def cursor(self, *_: object) -> Cursor:  # type: ignore[override]
            return super().cursor(Cursor)

        def commit(self) -> None:
            if self.in_transaction:
                statement, parameters = self.last
                refusals.write(f"COMMIT after {statement}", parameters)
            super().commit()

    def connect(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
        options["factory"] = Connection

    event.listen(Engine, "do_connect", connect)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", connect)


@contextmanager
def with_pragma(pragma: Callable[[], str]) -> Iterator[None]:
    """Whoever takes a connection has this pragma set on it."""

    def set_pragma(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        connection.execute(f"PRAGMA {pragma()}")

    event.listen(Pool, "checkout", set_pragma)
    try:
        yield
    finally:
        event.remove(Pool, "checkout", set_pragma)


@contextmanager
def told_faults() -> Iterator[list[str]]:
    """What the drivers said in errors meanwhile."""
    told: list[str] = []

    def note(context: ExceptionContext) -> None:
        told.append(str(context.original_exception))

    event.listen(Engine, "handle_error", note)
    try:
        yield told
    finally:
        event.remove(Engine, "handle_error", note)


def without_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the engine wait for a hundredth of the time before it tries again."""
    quick = SimpleNamespace(random=lambda: 0.005 * random.random() - 0.495)
    monkeypatch.setattr("dbos._sys_db.random", quick)
