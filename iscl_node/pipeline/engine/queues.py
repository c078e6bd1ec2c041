"""Queues: what waits for its turn, and how many of it run at once."""

from dataclasses import dataclass

from dbos import DBOS

_POLLING_SECONDS = 0.5


@dataclass(frozen=True)
class Queue:
    """One queue. The engine keeps its limits in the database, one value for all workers: the last to launch wins.

    Parameters
    ----------
    name : str
        Workflows wait under it, also over an upgrade.
    worker_concurrency : int, optional
        How many of it run at once in one worker.
    partition_concurrency : int, optional
        How many of each partition run at once in one worker; then everything enqueued belongs to a partition.
    """

    name: str
    worker_concurrency: int | None = None
    partition_concurrency: int | None = None

    def register(self) -> None:
        """Begin to take work from it; after the launch."""
        DBOS.register_queue(
            self.name,
            worker_concurrency=self.worker_concurrency,
            partition_worker_concurrency=self.partition_concurrency,
            polling_interval_sec=_POLLING_SECONDS,
        )
