"""Starting and stopping the workflow engine."""

from collections.abc import Sequence

from dbos import DBOS, DBOSConfig
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from iscl_node.errors import ConfigurationError
from iscl_node.pipeline.engine.damaged_database import is_damage, set_aside, set_aside_if_damaged, sqlite_file
from iscl_node.pipeline.engine.database_faults import reason
from iscl_node.pipeline.engine.polling import poll_what_changed
from iscl_node.pipeline.engine.queues import Queue

APPLICATION = "iscl-node"

_POSTGRESQL_CONNECTION = {
    "application_name": APPLICATION,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""So that a server that vanished without a word is missed after a minute (seconds, and milliseconds for the last),
https://www.postgresql.org/docs/15/libpq-connect.html. By default the operating system waits for hours."""


def launch_engine(
    database_url: str, worker_name: str, version: str, queues: Sequence[Queue], *, is_working: bool = True
) -> None:
    """Start the engine: unfinished workflows of this worker and version resume at once.

    Every :class:`~iscl_node.pipeline.engine.words.Durable` must exist before. A damaged SQLite file is renamed, and
    the engine starts with an empty one.

    Parameters
    ----------
    database_url : str
        ``sqlite:///...`` or ``postgresql://...``.
    worker_name : str
        Stable name of this worker.
    version : str
        Only workflows of the same version run.
    queues : sequence of Queue
        In which work waits.
    is_working : bool
        Whether this worker takes work from them, or only puts it there.

    Raises
    ------
    ConfigurationError
        If the database cannot be used, for example because it is down.
    """
    config: DBOSConfig = {
        "name": APPLICATION,
        "system_database_url": database_url,
        "executor_id": worker_name,
        "application_version": version,
        "log_level": "WARNING",
        "enable_otlp": False,
    }
    if not database_url.startswith("sqlite:"):
        config["db_engine_kwargs"] = {"connect_args": _POSTGRESQL_CONNECTION}
    try:
        set_aside_if_damaged(database_url)
        _start(config, database_url, [queue.name for queue in queues] if is_working else [])
        for queue in queues:
            queue.register()
        path = sqlite_file(database_url)
        if path is not None:
            poll_what_changed(path)
    except OSError as error:
        raise ConfigurationError(f"the damaged workflow database cannot be renamed: {error.strerror}") from error
    except SQLAlchemyError as error:
        DBOS.destroy()
        told = reason(error, database_url)
        raise ConfigurationError(f"the workflow database cannot be used, see database_url: {told}") from error


def _start(config: DBOSConfig, database_url: str, listening: Sequence[str]) -> None:
    """Launch; what the look through the file did not find, the engine may."""
    try:
        _launch(config, listening)
    except DBAPIError as error:
        path = sqlite_file(database_url)
        if path is None or not is_damage(error.orig):
            raise
        DBOS.destroy()
        set_aside(path, type(error.orig).__name__)
        _launch(config, listening)


def _launch(config: DBOSConfig, listening: Sequence[str]) -> None:
    DBOS(config=config)
    DBOS.listen_queues(listening)
    DBOS.launch()


def stop_engine(seconds: float) -> None:
    """Wait for the steps that run, then stop; what is unfinished resumes at the next start."""
    DBOS.destroy(workflow_completion_timeout_sec=int(seconds))
