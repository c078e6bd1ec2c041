"""How far a long command is: a line that moves on a terminal, a line now and then in a pipe."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.status import Status

_LINE_SECONDS = 10


class Progress:
    """Counts instances, and estimates how long the rest takes.

    Parameters
    ----------
    console : Console
        Where it is shown.
    clock : callable
        Seconds that only ever grow.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._status: Status | None = console.status("0 instances") if console.is_terminal else None
        self._total = self._done = 0
        self._started = self._told = clock()

    def __enter__(self) -> "Progress":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def expect(self, count: int) -> None:
        """So many more instances are to be made; the time counts from the first."""
        if not self._total:
            self._started = self._clock()
        self._total += count

    def advance(self) -> None:
        """One more is made."""
        self._done += 1
        now = self._clock()
        if self._status is not None:
            self._status.update(self._text(now))
        elif now - self._told >= _LINE_SECONDS:
            self._told = now
            self._console.print(self._text(now), highlight=False)

    def _text(self, now: float) -> str:
        left = max(0, self._total - self._done)
        if not left:
            return f"{self._done} instances"
        seconds = round((now - self._started) / self._done * left)
        return f"{self._done} of {self._total} instances, about {_duration(seconds)} left"


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
