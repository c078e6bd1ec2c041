"""``iscl-node fetch``: has an archive send what it keeps to the node, for a back catalogue."""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.request import urlopen
from zoneinfo import ZoneInfo

import typer

from iscl_node.cli.spool import opened_spool
from iscl_node.cli.terminal import DEFAULT_CONFIG, FAILED, Config, Json, err, out
from iscl_node.domain.hours import Hours
from iscl_node.errors import ConfigurationError
from iscl_node.settings import Settings, load_settings

if TYPE_CHECKING:
    from iscl_node.domain import Peer
    from iscl_node.network.scu.catalogue import Query
    from iscl_node.network.scu.query import MoveResult
    from iscl_node.pipeline.fetching import Progress

_LOOK_SECONDS: Final = 1.0
"""Between two looks whether the node is ready for more."""


def fetch(
    peer: Annotated[str, typer.Option(metavar="NAME", help="The archive, by its name in [[peers]].")],
    study: Annotated[list[str] | None, typer.Option(metavar="UID", help="A study; may be given again.")] = None,
    list_: Annotated[
        Path | None, typer.Option("--list", metavar="FILE", help="Studies: a UID at the beginning of each line.")
    ] = None,
    query: Annotated[
        str,
        typer.Option(
            metavar="KEYS", help="'StudyDate=20260101-20260131 SeriesDescription=*THIN*'; Modality is CT by default."
        ),
    ] = "",
    hours: Annotated[str, typer.Option(metavar="HOURS", help="20:00-06:00: begin a series in these hours only.")] = "",
    waiting: Annotated[
        int, typer.Option(min=1, help="Begin a series when fewer instances than this wait in the spool.")
    ] = 2000,
    again: Annotated[bool, typer.Option("--again", help="Fetch also what was fetched before.")] = False,
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Have an archive send studies to the running node, by C-FIND and C-MOVE; run again, it goes on where it ended."""
    with opened_spool(config, "fetch") as spool:
        settings = load_settings(config)
        found = _archive(settings, peer)
        chosen = _read_query(query)
        uids = _studies(study or [], list_, query, settings, found, chosen)
        turn = _Turn(settings, spool.root, _read_hours(hours), waiting)
        try:
            progress = _fetched(settings, spool.root, found, chosen, uids, turn, again)
        except KeyboardInterrupt:
            err.print("ended; the same command goes on from here", highlight=False)
            raise typer.Exit(FAILED) from None
    _summarize(progress, as_json)


def _summarize(progress: "Progress", as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(progress)))  # noqa: T201 - for machines
    else:
        fetched = f"{progress.series} series with {progress.instances} instances fetched"
        before = f", {progress.fetched_before} studies fetched before" if progress.fetched_before else ""
        out.print(f"{progress.studies} studies: {fetched}{before}, {progress.failed} not fetched", highlight=False)
    if progress.failed:
        raise typer.Exit(FAILED)


def _archive(settings: Settings, name: str) -> "Peer":
    peer = next((each for each in settings.known_peers() if each.name == name), None)
    if peer is None or peer.web is not None or not (peer.may_query and peer.may_store):
        raise ConfigurationError(f'{name!r} is none of [[peers]] whose may has "query" and "store"')
    return peer


def _read_query(text: str) -> "Query":
    from iscl_node.network.scu.catalogue import Query

    return Query.read(text) if text else Query()


def _read_hours(text: str) -> Hours | None:
    try:
        return Hours.read(text) if text else None
    except ValueError as error:
        raise ConfigurationError(f"--hours: {error}") from error


def _studies(
    given: Sequence[str], file: Path | None, query: str, settings: Settings, peer: "Peer", chosen: "Query"
) -> list[str]:
    from iscl_node.network.scu.catalogue import find_studies
    from iscl_node.store.layout import is_uid

    if sum(map(bool, (given, file, query))) != 1:
        raise ConfigurationError("one of --study, --list and --query says what to fetch")
    if query:
        return find_studies(peer, settings.scp.ae_title, chosen)
    uids = list(given) if file is None else _listed(file)
    wrong = [uid for uid in uids if not is_uid(uid)]
    if wrong:
        raise ConfigurationError(f"{wrong[0]!r} is no UID of a study ({len(wrong)} of {len(uids)} are none)")
    return list(dict.fromkeys(uids))


def _listed(file: Path) -> list[str]:
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read as text") from error
    return [line.replace(",", " ").split()[0] for line in lines if line.strip() and not line.startswith("#")]


class _Archive:
    """A peer, as the source of `Fetching`."""

    def __init__(self, peer: "Peer", our_ae_title: str, query: "Query") -> None:
        self._peer = peer
        self._ours = our_ae_title
        self._query = query

    def series(self, study_uid: str) -> list[str]:
        from iscl_node.network.scu.catalogue import find_series

        return find_series(self._peer, self._ours, study_uid, self._query)

    def instances(self, study_uid: str, series_uid: str) -> Collection[str]:
        from iscl_node.network.scu.query import find_instances

        return find_instances(self._peer, self._ours, study_uid, series_uid)

    def move(self, study_uid: str, series_uid: str, sop_uids: Sequence[str]) -> "MoveResult":
        from iscl_node.network.scu.query import move_instances

        return move_instances(self._peer, self._ours, study_uid, series_uid, sop_uids)


class _Turn:
    """Waits until the hours are there, the node is ready, and little enough waits in its spool."""

    def __init__(self, settings: Settings, root: Path, hours: Hours | None, most_waiting: int) -> None:
        self._settings = settings
        self._root = root
        self._hours = hours
        self._most_waiting = most_waiting
        self._said = ""

    def wait(self) -> None:
        """Return when the next series may come."""
        while reason := self._reason():
            if reason != self._said:
                out.print(reason, highlight=False)
            self._said = reason
            time.sleep(_LOOK_SECONDS)
        self._said = ""

    def _reason(self) -> str:
        """Why it has to wait; empty if it need not."""
        from iscl_node.store.inventory import instances_under_way
        from iscl_node.store.layout import Layout

        zone = self._settings.derived.time_zone
        now = datetime.now(ZoneInfo(zone)) if zone else datetime.now().astimezone()
        if self._hours is not None and now.time() not in self._hours:
            return f"waits until {self._hours.begin(now):%Y-%m-%d %H:%M}"
        if not _is_ready(self._settings):
            return "waits for the node to be ready"
        is_full = instances_under_way(Layout(self._root)) >= self._most_waiting
        return f"waits until fewer than {self._most_waiting} instances are in the spool" if is_full else ""


def _is_ready(settings: Settings) -> bool:
    http = settings.http
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(http.host, http.host)
    try:
        with urlopen(f"http://{host}:{http.port}/readyz", timeout=10):
            return True
    except (OSError, HTTPException):
        return False


def _fetched(
    settings: Settings, root: Path, peer: "Peer", query: "Query", uids: Sequence[str], turn: _Turn, again: bool
) -> "Progress":
    from iscl_node.pipeline.fetching import Fetching
    from iscl_node.retry import Backoff
    from iscl_node.store.records.fetched import Fetched

    backoff = Backoff(settings.delivery.first_retry_seconds, settings.delivery.last_retry_seconds)
    source = _Archive(peer, settings.scp.ae_title, query)
    record = Fetched(root, peer.name, json.dumps(query.series, sort_keys=True), is_new=again)
    return Fetching(source, record, turn.wait, time.sleep, backoff, _report).fetch(uids)


def _report(progress: "Progress", happened: str) -> None:
    out.print(
        f"study {progress.study} of {progress.studies}: {happened}", highlight=False, markup=False, soft_wrap=True
    )
