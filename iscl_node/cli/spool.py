"""The commands that look into the spool of a node, running or not, and decide what waits for a person.

Each of them changes the spool by one rename at a time, so a running node is never in the way.
"""

import getpass
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from iscl_node.cli.audit import record
from iscl_node.cli.terminal import DEFAULT_CONFIG, FAILED, Config, err, out, reported
from iscl_node.cli.users import check_user
from iscl_node.domain import SeriesState
from iscl_node.errors import ConfigurationError, RetryLaterError
from iscl_node.logs import hashed
from iscl_node.settings import load_settings

if TYPE_CHECKING:
    from iscl_node.store.spool import Spool

_READING = ("status", "lookup")
"""Commands that change nothing in the spool."""

SeriesUid = Annotated[str, typer.Argument(metavar="SERIES_UID", help="Series Instance UID.")]


@contextmanager
def opened_spool(config: Path, command: str) -> "Iterator[Spool]":
    """The spool of the settings, for the length of one command; every error is printed."""
    from iscl_node.store.spool import Spool

    with reported():
        settings = load_settings(config)
        check_user(settings.spool_dir, command, changes=command not in _READING)
        if not (settings.spool_dir / SeriesState.OPEN.value).is_dir():
            raise ConfigurationError(f"there is no spool in {settings.spool_dir}; has the node run here?")
        try:
            yield Spool(settings.spool_dir.resolve(), settings.spool.min_free_bytes)
        except OSError as error:
            raise RetryLaterError(f"the disk refuses it: {error.strerror}") from error


def lookup(
    text: Annotated[str, typer.Argument(metavar="HASH_OR_UID", help="Of a line of the log, or any UID.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Print which series or instance of the spool a hash in the log stands for, or the hash of a UID."""
    from iscl_node.store.log_key import known_log_key, places_of_uids

    with opened_spool(config, "lookup") as spool:
        key = known_log_key(spool.root)
        if key is None:
            raise ConfigurationError(f"the key of the log in {spool.root} is not there or may not be read")
        places = places_of_uids(spool.root)
        given = {text} if "." in text else set()
        found = [uid for uid in sorted({*places, *given}) if text in (uid, hashed(key, uid))]
        if not found:
            raise ConfigurationError(f"{text} stands for nothing that is in the spool now")
    for uid in found:
        out.print(f"{hashed(key, uid)} {uid} {places.get(uid, 'not in the spool')}", highlight=False, soft_wrap=True)


def close(series_uid: SeriesUid, config: Config = DEFAULT_CONFIG) -> None:
    """Have an open series processed as it is, even if slices are missing; the running node takes it up by itself.

    What arrives later joins its derived series.
    """
    with opened_spool(config, "close") as spool:
        if series_uid not in spool.quiet_series(time.time(), 0):
            raise ConfigurationError(f"series {series_uid} is not open")
        batch = spool.close(series_uid, datetime.now(UTC))
        instances = len(spool.instances(batch))
    out.print(f"closed with {instances} instances as batch {batch.key}", highlight=False)


def requeue(
    series_uid: Annotated[
        str, typer.Argument(metavar="SERIES_UID", help="Series Instance UID, in quarantine or ignored.")
    ],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Give a series in quarantine, or an ignored one, another try; the running node takes it up by itself.

    Another image under a SOP Instance UID that was processed stays in quarantine: its result would have the UID of the
    other one's. Look at it with export, then release it.
    """
    with opened_spool(config, "requeue") as spool:
        batches = spool.requeue(series_uid, datetime.now(UTC))
        if not batches:
            raise ConfigurationError(
                f"no batch of series {series_uid} is in quarantine or ignored, and can be requeued"
            )
    out.print(f"{len(batches)} batch(es) requeued", highlight=False)


def redo(series_uid: SeriesUid, config: Config = DEFAULT_CONFIG) -> None:
    """Make a delivered series anew, as model and settings are now; what was made before stays at its destinations.

    Under another model, profile or strength it becomes a series of its own beside that one.
    """
    from iscl_node.store.again import redo as give_back
    from iscl_node.store.records.actions import note_action

    with opened_spool(config, "redo") as spool:
        _record_use(config, spool, "redone", series_uid)
        batch = give_back(spool, series_uid, datetime.now(UTC))
        if batch is None:
            raise ConfigurationError(f"series {series_uid} is not among the delivered ones that are kept")
        note_action(spool.root, "redone", _user(), series_uid, datetime.now(UTC))
        instances = len(spool.instances(batch))
    out.print(f"{instances} instances are processed anew as batch {batch.key}", highlight=False)


def resend(
    series_uid: SeriesUid,
    to: Annotated[str, typer.Option(metavar="PEER", help="Only to this destination, by its name.")] = "",
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Send the derived objects of a delivered series once more as they are, to one of its destinations or to all."""
    from iscl_node.store.again import resend as send_again
    from iscl_node.store.records.actions import note_action
    from iscl_node.store.records.running_time import RunningTime

    with opened_spool(config, "resend") as spool:
        receiving = {peer.name for peer in load_settings(config).known_peers() if peer.may_receive}
        if to and to not in receiving:
            raise ConfigurationError(f"no peer {to!r} that may receive; there are {', '.join(sorted(receiving))}")
        chosen = {to} if to else receiving
        _record_use(config, spool, "resent", series_uid)
        counts = send_again(spool, series_uid, chosen, RunningTime(spool.root).seconds())
        if not counts:
            raise ConfigurationError(f"nothing is kept that series {series_uid} was sent as to {to or 'a peer'}")
        note_action(spool.root, "resent", _user(), series_uid, datetime.now(UTC))
    for name, count in counts.items():
        out.print(f"{count} objects are sent to {name} once more", highlight=False)


def _record_use(config: Path, spool: "Spool", decision: str, series_uid: str) -> None:
    """Record in the audit trail that delivered instances are used once more."""
    from iscl_node.pipeline.audit.what_happened import decision_messages
    from iscl_node.store.again import delivered_folders

    folders = delivered_folders(spool, series_uid)
    record(load_settings(config), spool.root, lambda told: decision_messages(told, _user(), decision, folders))


def release(
    series_uid: SeriesUid,
    batch: Annotated[str | None, typer.Option(help="Only this batch of it, as status shows it.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it only print what would be deleted.")] = False,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Delete what is in quarantine of a series for good; who did it is recorded in the spool's releases.jsonl."""
    from iscl_node.pipeline.audit.what_happened import deletion_messages
    from iscl_node.store.leaving.retention import discard

    with opened_spool(config, "release") as spool:
        chosen = [
            each
            for each in spool.quarantined()
            if each.batch.series_instance_uid == series_uid and batch in (None, each.batch.key)
        ]
        if not chosen:
            raise ConfigurationError(f"no such batch of series {series_uid} is in quarantine")
        for each in chosen:
            amount = f"{each.batch.key}: {each.files} files, {decimal(each.size_bytes)}: {each.reason}"
            out.print(amount, highlight=False, markup=False, soft_wrap=True)
        if not yes:
            err.print("nothing was deleted; with --yes these are, for good", highlight=False)
            raise typer.Exit(FAILED)
        folders = [each.folder for each in chosen]
        record(load_settings(config), spool.root, lambda told: deletion_messages(told, _user(), spool.root, folders))
        deleted = discard(spool.root, chosen, _user(), datetime.now(UTC))
    out.print(f"{deleted} batch(es) deleted", highlight=False)


def _user() -> str:
    """Who runs this; in a container the number may have no name."""
    number = os.getuid()
    try:
        return f"{os.environ.get('SUDO_USER') or getpass.getuser()} ({number})"
    except (KeyError, OSError):
        return str(number)


def export(
    series_uid: SeriesUid,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Is made; must not be there yet.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Copy all that the spool has of a series: received and derived instances, reasons, pictures."""
    from iscl_node.pipeline.audit.what_happened import export_messages
    from iscl_node.store import tree
    from iscl_node.store.leaving.export import export as export_series

    with opened_spool(config, "export") as spool:
        try:
            copied = export_series(spool.root, series_uid, folder)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        if not copied:
            raise ConfigurationError(f"nothing of series {series_uid} is in the spool")
        try:
            record(load_settings(config), spool.root, lambda told: export_messages(told, _user(), folder))
        except RetryLaterError:
            tree.remove_folder(folder.resolve())
            raise
    for name, files in copied.items():
        out.print(f"{folder / name}: {files} files", highlight=False, markup=False, soft_wrap=True)
