"""What `iscl-node status` tells of work: which worker does what, and which batch waits for the hours of its rule."""

from pathlib import Path
from typing import Any

from rich.markup import escape

from iscl_node.cli.terminal import err, out
from iscl_node.domain import Batch
from iscl_node.errors import ConfigurationError
from iscl_node.settings import Settings


def told_workers(settings: Settings) -> list[dict[str, Any]]:
    """Each worker that PostgreSQL knows; none with SQLite, where the node is alone, or if it cannot be asked."""
    if not settings.has_postgresql:
        return []
    from iscl_node.pipeline.engine.census import census

    try:
        states = census(settings.database_url)
    except ConfigurationError as error:
        err.print(f"[yellow]workers[/yellow] not known: {escape(str(error))}", highlight=False, soft_wrap=True)
        return []
    return [
        {
            "worker": each.worker.name,
            "role": each.worker.role,
            "host": each.worker.host,
            "pid": each.worker.pid,
            "state": "leads" if each.leads else "alive" if each.is_alive else "dead",
            "batches": sorted({_batch_of(identity) for identity in each.workflows} - {""}),
        }
        for each in states
    ]


def _batch_of(identity: str) -> str:
    """Series and key of the batch that a workflow works on; empty for one that a report woke for a moment."""
    series, key, *rest = [*identity.split("/"), "", ""]
    return f"{series} {key}" if any(rest) else ""


def show_workers(workers: list[dict[str, Any]]) -> None:
    """Print them."""
    for each in workers:
        color = "red" if each["state"] == "dead" else "green"
        who = f"{each['worker']} ({each['role']}, process {each['pid']} on {each['host']})"
        work = ", ".join(each["batches"]) or "nothing"
        text = f"{escape(who)}: {each['state']}; works on {work}"
        out.print(f"[{color}]worker[/{color}] {text}", highlight=False, soft_wrap=True)


def told_waiting(batch: Batch, spool: Path) -> dict[str, Any] | None:
    """A batch that waits for the hours of its rule; None for any other."""
    from iscl_node.pipeline.steps.plan import wait_seconds
    from iscl_node.store.log_key import log_name
    from iscl_node.store.records.plan import kept_plan

    rule = (kept_plan(spool, batch) or {}).get("rule", {})
    if not wait_seconds(rule):
        return None
    return {
        "series": batch.series_instance_uid,
        "log": log_name(spool, batch.series_instance_uid),
        "batch": batch.key,
        "rule": str(rule.get("name", "")),
        "not_before": rule["not_before"],
    }


def show_waiting(waiting: list[dict[str, Any]]) -> None:
    """Print them."""
    for each in waiting:
        text = f"{each['series']} {each['batch']}: for the hours of rule {each['rule']!r}, {each['not_before']}"
        out.print(f"[yellow]waits[/yellow] {escape(text)}; in the log {each['log']}", highlight=False, soft_wrap=True)
