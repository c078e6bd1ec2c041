"""Whether the workflow database can be used, before anything is asked of it."""

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from iscl_node.errors import ConfigurationError
from iscl_node.pipeline.engine.damaged_database import sqlite_file
from iscl_node.pipeline.engine.database_faults import reason

_CONNECTION_SECONDS = 10


def check_database(database_url: str) -> None:
    """Connect to the database; a SQLite file that is not there yet is made by the node.

    Raises
    ------
    ConfigurationError
        It cannot be connected to; the message has what the driver says, without the password.
    """
    file = sqlite_file(database_url)
    if file is not None and not file.exists():
        return
    url = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    options = {} if file is not None else {"connect_timeout": _CONNECTION_SECONDS}
    engine = create_engine(url, connect_args=options)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1" if file is None else "SELECT 1 FROM sqlite_master"))
    except SQLAlchemyError as error:
        raise ConfigurationError(f"it cannot be used: {reason(error, database_url)}") from error
    finally:
        engine.dispose()
