"""What the workflow database keeps of batches that have ended, and for how long.

DBOS deletes nothing by itself: each batch leaves a row for itself and one for each of its steps. The pages of deleted
rows are used again, by SQLite as by PostgreSQL, so the database stops growing, though its file does not shrink.
"""

from datetime import UTC, datetime, timedelta

from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError

from iscl_node.errors import RetryLaterError

_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
"""Every status of DBOS but those of workflows that run, wait in the queue, or are put off."""

_AT_LEAST = timedelta(hours=1)
"""So that whoever listed the closed batches before the end of one does not begin it again."""

_AT_A_TIME = 20
"""With a thousand steps each, a transaction of less than a second."""


def forget_ended(retention_seconds: float) -> int:
    """Delete workflows that ended longer ago than this (an hour at least), and say how many.

    At most 20, so call it again. Workflows that have not ended stay, however old they are.

    Raises
    ------
    RetryLaterError
        If the workflow database refuses it.
    """
    before = datetime.now(UTC) - max(timedelta(seconds=retention_seconds), _AT_LEAST)
    try:
        ended = DBOS.list_workflows(
            status=_ENDED,
            completed_before=before.isoformat(),
            limit=_AT_A_TIME,
            load_input=False,
            load_output=False,
        )
        if ended:
            DBOS.delete_workflows([each.workflow_id for each in ended])
    except SQLAlchemyError as error:
        raise RetryLaterError(f"the workflow database deletes nothing: {type(error).__name__}") from error
    return len(ended)
