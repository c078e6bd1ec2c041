"""``iscl-node status``: what is in the spool, what each series waits for, and what a person must decide."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from iscl_node.cli.spool import opened_spool
from iscl_node.cli.terminal import DEFAULT_CONFIG, Config, Json, out
from iscl_node.cli.workers import show_workers, told_workers
from iscl_node.domain import Batch, IncompleteSeries, SetAsideBatch
from iscl_node.settings import Settings, load_settings

if TYPE_CHECKING:
    from iscl_node.pipeline.page.overview import Row
    from iscl_node.store.listing import Delivered
    from iscl_node.store.spool import Spool

_WATCH_SECONDS: Final = 2.0


@dataclass(frozen=True)
class _Status:
    """What is shown, in plain values."""

    workers: list[dict[str, Any]]
    batches: dict[str, int]
    incomplete: list[dict[str, Any]]
    waiting: list[dict[str, Any]]
    sent: list[dict[str, Any]]
    ignored: dict[str, int]
    noted: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]


def status(
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 seconds, until Ctrl and C.")] = False,
) -> None:
    """Show what is in the spool: what each series waits for, what is in quarantine, why, and since when."""
    with opened_spool(config, "status") as spool:
        settings = load_settings(config)
        try:
            _look(spool, settings, as_json)
            while watch:
                time.sleep(_WATCH_SECONDS)
                out.clear()
                _look(spool, settings, as_json)
        except KeyboardInterrupt:
            return


def _look(spool: "Spool", settings: Settings, as_json: bool) -> None:
    told = _status(spool, settings)
    if as_json:
        print(json.dumps(vars(told), indent=2), flush=True)  # noqa: T201 - for machines
    else:
        _show(told)


def _status(spool: "Spool", settings: Settings) -> _Status:
    from iscl_node.dicom.reading.display import SeriesDescription
    from iscl_node.pipeline.page.overview import IN_HAND, Overview
    from iscl_node.store.receiving.open_series import OpenSeries

    root = spool.root
    rows = Overview(root, describe=lambda _: SeriesDescription()).rows()
    return _Status(
        workers=told_workers(settings),
        batches={state.value: count for state, count in spool.counts().items()},
        incomplete=[_told_incomplete(each, root) for each in OpenSeries(root).incomplete()],
        waiting=[_told_waiting(row, root) for row in rows if row.step in IN_HAND],
        sent=[_told_sent(each, root) for each in spool.sent_batches()],
        ignored=Counter(each.reason for each in spool.ignored()),
        noted=[{**_place(row, root), "notes": list(row.notes)} for row in rows if row.notes],
        quarantine=[_told_set_aside(each, root) for each in spool.quarantined()],
    )


def _place(row: "Row", root: Path) -> dict[str, Any]:
    from iscl_node.store.log_key import log_name

    return {"series": row.series_uid, "log": log_name(root, row.series_uid), "batch": row.listed.batch.key}


def _told_waiting(row: "Row", root: Path) -> dict[str, Any]:
    wait = row.listed.wait
    return _place(row, root) | {
        "step": row.step.value,
        "since": _time(row.listed.since),
        "slices": row.slices,
        "denoised": row.derived,
        "reason": row.reason if wait is None else wait.reason,
        "next_try": "" if wait is None else _time(wait.until),
        "destinations": [_told_delivery(each, sum(row.listed.derived.values())) for each in row.listed.deliveries],
    }


def _told_delivery(each: "Delivered", wanted: int) -> dict[str, Any]:
    return {
        "name": each.destination,
        "has": each.stored,
        "of": wanted,
        "confirmed": bool(each.confirmed_by),
        "reason": each.refusal or ("" if each.wait is None else each.wait.reason),
        "next_try": "" if each.wait is None else _time(each.wait.until),
    }


def _told_incomplete(each: IncompleteSeries, spool: Path) -> dict[str, Any]:
    from iscl_node.store.log_key import log_name

    return {
        "series": each.series_instance_uid,
        "log": log_name(spool, each.series_instance_uid),
        "state": "held" if each.is_held else "incomplete",
        "missing": each.missing,
        "last_arrival": _time(each.last_arrival),
    }


def _told_sent(each: Batch, spool: Path) -> dict[str, Any]:
    from iscl_node.store.log_key import log_name
    from iscl_node.store.records.deliveries import Deliveries

    deliveries = Deliveries(spool)
    records = {name: deliveries.record(each, name) for name in deliveries.destinations(each)}
    return {
        "series": each.series_instance_uid,
        "log": log_name(spool, each.series_instance_uid),
        "batch": each.key,
        "waits_for": [name for name, record in records.items() if not record.is_confirmed],
        "stopped": [name for name, record in records.items() if record.is_stopped],
    }


def _told_set_aside(each: SetAsideBatch, spool: Path) -> dict[str, Any]:
    from iscl_node.store.log_key import log_name

    return {
        "series": each.batch.series_instance_uid,
        "log": log_name(spool, each.batch.series_instance_uid),
        "batch": each.batch.key,
        "reason": each.reason,
        "since": _time(each.since),
        "files": each.files,
        "bytes": each.size_bytes,
        "path": str(each.folder),
        "picture": str(each.picture or ""),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _show(told: _Status) -> None:
    table = Table("state", "batches", title="Spool")
    for state, count in told.batches.items():
        table.add_row(state, str(count))
    out.print(table)
    show_workers(told.workers)
    for each in told.incomplete:
        text = f"{each['missing']}; in the log {each['log']}, last arrival {each['last_arrival']}"
        _line("yellow", each["state"], f"{each['series']}: {text}")
    for each in told.waiting:
        _line("yellow", each["step"], _waiting_text(each))
    for each in told.sent:
        _line("yellow", "sent", _sent_text(each))
    for reason, count in told.ignored.items():
        _line("yellow", "ignored", f"{count} batch(es): {reason}")
    for each in told.noted:
        for note in each["notes"]:
            _line("yellow", "note", f"{each['series']} {each['batch']}: {note}")
    _show_quarantine(told.quarantine)


def _line(color: str, kind: str, text: str) -> None:
    out.print(f"[{color}]{kind}[/{color}] {escape(text)}", highlight=False, soft_wrap=True)


def _waiting_text(each: dict[str, Any]) -> str:
    """One line: which series, how far it is, where it goes, and what it waits for."""
    parts = [f"{each['denoised']} of {each['slices']} slices denoised"]
    parts += [_delivery_text(to) for to in each["destinations"]]
    if each["reason"] and not each["destinations"]:
        parts.append(each["reason"] + _next_try(each["next_try"]))
    return f"{each['series']} {each['batch']}: {'; '.join(parts)}; in the log {each['log']}, since {each['since']}"


def _delivery_text(to: dict[str, Any]) -> str:
    has = "confirmed" if to["confirmed"] else f"has {to['has']} of {to['of']}"
    reason = f", {to['reason']}{_next_try(to['next_try'])}" if to["reason"] else ""
    return f"{to['name']} {has}{reason}"


def _next_try(time_told: str) -> str:
    return f", next try {time_told}" if time_told else ""


def _sent_text(each: dict[str, Any]) -> str:
    waits_for, stopped = ", ".join(each["waits_for"]), ", ".join(each["stopped"])
    text = f"{each['series']} {each['batch']}: {waits_for} has not confirmed yet; in the log {each['log']}"
    return text + (
        f"; nothing more is stored at {stopped}, which takes everything and shows nothing" if stopped else ""
    )


def _show_quarantine(quarantined: list[dict[str, Any]]) -> None:
    for reason, count in Counter(each["reason"] for each in quarantined).items():
        if count > 1:
            _line("red", "quarantine", f"{count} batches: {reason}")
    for each in quarantined:
        _line("red", "quarantine", f"{each['series']} {each['batch']}: {each['reason']}")
        amount = f"{each['files']} files, {decimal(each['bytes'])}, in {each['path']}"
        out.print(
            f"  in the log {each['log']}, since {each['since']}, {amount}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        if each["picture"]:
            out.print(f"  picture: {each['picture']}", highlight=False, markup=False, soft_wrap=True)
