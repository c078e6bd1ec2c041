"""How the demonstration reports what it does; its caller decides where that is shown."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class Narrator(Protocol):
    """Hears what happens."""

    def note(self, text: str) -> None:
        """Show a line that stays."""

    def progress(self, text: str) -> None:
        """Show what is going on at the moment."""


@dataclass(frozen=True)
class Stage:
    """A finished stage and its time."""

    name: str
    seconds: float


class Stopwatch:
    """Times the stages, one after the other, and reports them.

    Parameters
    ----------
    narrator : Narrator
        Hears the beginning and the end of each stage.
    """

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._stages: list[Stage] = []

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that are finished."""
        return tuple(self._stages)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; one that fails is not recorded."""
        self._narrator.progress(name)
        started = time.monotonic()
        yield
        self._stages.append(Stage(name, time.monotonic() - started))
        self._narrator.note(f"{name}: {self._stages[-1].seconds:.1f} s")
