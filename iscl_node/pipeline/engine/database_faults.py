"""Faults of the workflow database that pass: who meets one waits, or comes again, and no batch ends by it.

DBOS does a statement again and again, after waits of up to 90 s, when a connection is lost or SQLite is locked;
every other refusal of the database ends the workflow with an error, though a full disk passes as well. SQLAlchemy asks
about each error that a driver raises (``handle_error``). The answer is one of four:

* In a workflow, and in the engine's own threads, the fault counts as a lost connection, and DBOS does it again.
* In a workflow of a node that stops, the workflow is left where it is, for the next start.
* Where waiting is not allowed (:func:`not_waiting`), the fault is raised at once.
* A damaged SQLite file stops the node.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from dbos import DBOS
from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from iscl_node.errors import RetryLaterError
from iscl_node.pipeline.engine.damaged_database import is_damage
from iscl_node.pipeline.engine.shutdown import NodeStopping, Shutdown

_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,  # the file system, after a fault of its own
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,  # also the journal, when there is no room for another file
}
"""Primary result codes, https://www.sqlite.org/rescode.html."""

_POSTGRESQL = ("08", "25006", "53", "55P03", "57", "58")
"""How SQLSTATEs begin, https://www.postgresql.org/docs/15/errcodes-appendix.html: connection lost; read-only, as a
standby is; no resources, such as disk; lock not available; stopped or canceled by somebody; a fault of the system."""

_WORKFLOWS_ONLY = ("55P03", "57014")
"""Locked and canceled: the engine's own threads go on with something else."""

_hurried: ContextVar[bool] = ContextVar("hurried", default=False)


class DatabaseFaults:
    """Answers SQLAlchemy's question about every error of a driver in this process.

    Parameters
    ----------
    shutdown : Shutdown
        A node that stops waits for no database.
    """

    def __init__(self, shutdown: Shutdown) -> None:
        self._shutdown = shutdown
        self._damaged: Callable[[], object] | None = None
        self.is_damaged = False

    def listen(self) -> None:
        """Answer from now on; before the engine starts."""
        event.listen(Engine, "handle_error", self._answer)

    def tell_damage(self, damaged: Callable[[], object]) -> None:
        """Have the node stop when SQLite finds its file damaged; after the launch, which sets such a file aside."""
        self._damaged = damaged

    def _answer(self, context: ExceptionContext) -> None:
        if self._damaged is not None and is_damage(context.original_exception):
            self._stop_for_damage(self._damaged)
            return
        code = _passing(context)
        if code is None or context.is_pre_ping:  # a connection that is tried before it is used is made anew
            return
        if _hurried.get():
            raise RetryLaterError(f"the workflow database refuses: {type(context.original_exception).__name__}")
        in_workflow = DBOS.workflow_id is not None
        if in_workflow and self._shutdown.requested:
            raise NodeStopping
        if in_workflow or code not in _WORKFLOWS_ONLY:
            # The other connections are as good as they were, unless the driver itself says otherwise.
            context.invalidate_pool_on_disconnect = context.is_disconnect
            context.is_disconnect = True

    def _stop_for_damage(self, damaged: Callable[[], object]) -> None:
        """Leave every workflow where it is: the next start rebuilds what is going on from the spool."""
        self.is_damaged = True
        self._shutdown.request()
        damaged()
        if DBOS.workflow_id is not None:
            raise NodeStopping


def _passing(context: ExceptionContext) -> str | None:
    """The code of a fault that passes; empty if it has none, as when PostgreSQL is not there."""
    error, driver = context.original_exception, context.dialect.loaded_dbapi
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the lower byte of an extended code is the primary one
        return str(code) if code in _SQLITE else None
    if not isinstance(error, driver.Error):
        return None
    state = getattr(error, "sqlstate", None)
    if state is None:
        return "" if isinstance(error, driver.OperationalError) else None
    return str(state) if state.startswith(_POSTGRESQL) else None


def reason(error: Exception, database_url: str) -> str:
    """What a person may read of a fault: what the driver said, unless any of the password is in it."""
    text = " ".join(str(error.orig).split()) if isinstance(error, DBAPIError) else ""
    credentials = database_url.partition("://")[2].rpartition("@")[0]
    secrets = credentials.partition(":")[2].split("@")  # one that is not escaped makes a part of it the host's name
    return text if text and not any(secret and secret in text for secret in secrets) else type(error).__name__


@contextmanager
def not_waiting(what: str) -> Iterator[None]:
    """Have a fault of the workflow database raised at once.

    Parameters
    ----------
    what : str
        What the database does not do then: "takes no batch".

    Raises
    ------
    RetryLaterError
        If the database refuses.
    """
    token = _hurried.set(True)
    try:
        yield
    except (SQLAlchemyError, RetryLaterError) as error:
        cause = error.__cause__ if isinstance(error, RetryLaterError) else error
        raise RetryLaterError(f"the workflow database {what}: {type(cause).__name__}") from error
    finally:
        _hurried.reset(token)
