"""Opens the spool, for one node alone."""

from typing import BinaryIO

from iscl_node.errors import ConfigurationError
from iscl_node.pipeline.steps.plan import derived_per_received
from iscl_node.settings import Settings
from iscl_node.store.lock import hold
from iscl_node.store.log_key import made_log_key
from iscl_node.store.spool import Spool


def opened_spool(settings: Settings) -> tuple[Spool, BinaryIO]:
    """The spool, and the lock on it: only who holds it may clear what a killed node left."""
    try:
        lock = hold(settings.spool_dir.resolve(), settings.worker_name, is_shared=settings.has_postgresql)
        share = max((derived_per_received(rule) for rule in settings.known_rules()), default=0)
        return Spool.open(settings.spool_dir, settings.spool.min_free_bytes, settings.worker_name, share), lock
    except OSError as error:
        raise ConfigurationError(f"spool_dir {settings.spool_dir} cannot be used: {error.strerror}") from error


def log_key(spool: Spool) -> bytes:
    """The key with which the log hashes UIDs."""
    try:
        return made_log_key(spool.root)
    except OSError as error:
        raise ConfigurationError(f"the key of the log in {spool.root} cannot be used: {error.strerror}") from error


def recover(spool: Spool) -> None:
    """Clear what a kill left."""
    try:
        spool.recover()
    except OSError as error:
        raise ConfigurationError(f"spool_dir {spool.root} cannot be used: {error.strerror}") from error
