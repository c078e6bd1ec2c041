"""Steps that are done again until they are done."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import structlog

from iscl_node.errors import IsclNodeError, QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.pipeline.engine.shutdown import Shutdown
from iscl_node.retry import Backoff
from iscl_node.store.records.waits import Wait, Waits

_log = structlog.get_logger(__name__)

Result = TypeVar("Result")

_MAKING = ("check", "derive", "judge", "destinations")
"""Steps whose first argument is a batch."""
_DELIVERING = ("send", "ask")
"""Those whose second is a destination."""


class Trying:
    """Does a step again, with back-off, for as long as it asks for that; a node that stops begins no step.

    Parameters
    ----------
    shutdown : Shutdown
        Asked before each try.
    metrics : Metrics
        Times and tries.
    backoff : Backoff
        Of the tries; the node never gives up by itself.
    waits : Waits, optional
        Called with what is waited for.
    """

    def __init__(self, shutdown: Shutdown, metrics: Metrics, backoff: Backoff, waits: Waits | None = None) -> None:
        self._shutdown = shutdown
        self._metrics = metrics
        self._backoff = backoff
        self._waits = waits

    def tried(self, name: str, work: Callable[..., Result]) -> Callable[..., Result]:
        """The work of a step, with its further tries.

        The waiting is inside the step: the engine records a step when it is done, so a node that restarts in the
        middle of an outage tries at once.
        """
        self._shutdown.check()

        def try_until_done(*arguments: Any) -> Result:
            tries, told = 0, ""
            while True:
                self._tell(name, arguments, None)
                try:
                    result = self._timed(name, work, *arguments)
                    self._count(name, arguments, is_done=True)
                    return result
                except RetryLaterError as error:
                    wait_seconds = self._backoff.wait_seconds(tries)
                    if str(error) != told:  # once, not every time
                        _log.warning("step.retry_scheduled", step=name, reason=str(error), wait_seconds=wait_seconds)
                    told = str(error)
                self._tell(name, arguments, Wait(told, time.time() + wait_seconds))
                self._count(name, arguments, is_done=False)
                self._shutdown.wait(wait_seconds)
                tries += 1

        return try_until_done

    def _tell(self, name: str, arguments: Sequence[Any], wait: Wait | None) -> None:
        """Note that a step waits, or that it does not; of steps that make or deliver something."""
        if self._waits is None or name not in {*_MAKING, *_DELIVERING}:
            return
        batch, destination = arguments[0], arguments[1] if name in _DELIVERING else ""
        if wait is None:
            self._waits.end(batch, destination)
        else:
            self._waits.note(batch, destination, wait)

    def _count(self, name: str, arguments: Sequence[Any], *, is_done: bool) -> None:
        if not is_done:
            self._metrics.retries.labels(name).inc()
        if name in _DELIVERING:
            destination = arguments[1]
            self._metrics.destination_up.labels(destination).set(is_done)
            self._metrics.destination_retries.labels(destination).inc(not is_done)

    def _timed(self, name: str, work: Callable[..., Result], *arguments: Any) -> Result:
        started = time.monotonic()
        try:
            with unforeseen_quarantined("step.unforeseen_fault", IsclNodeError, step=name):
                return work(*arguments)
        finally:
            self._metrics.step_seconds.labels(name).observe(time.monotonic() - started)


@contextmanager
def unforeseen_quarantined(event: str, *passing: type[Exception], **fields: object) -> Iterator[None]:
    """Log an unexpected error, and turn it into quarantine: a batch must not be lost by it.

    Only its class is kept: the engine records what is raised, and its text may quote patient data.

    Parameters
    ----------
    event : str
        Of the log.
    *passing
        Classes of errors that go through unchanged.
    **fields
        Of the log.

    Raises
    ------
    QuarantineSeriesError
    """
    try:
        yield
    except passing:
        raise
    except Exception as error:  # noqa: BLE001 - the edge of a workflow: a batch must not be lost by it
        _log.exception(event, **fields)
        fault = f"unforeseen fault: {type(error).__name__}; the log says where"
        raise QuarantineSeriesError(fault) from None
