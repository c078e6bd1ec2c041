"""What `iscl-node status` shows of the workers of a spool: which live, which leads, and on which batches each works."""

from typing import Any

from rich.markup import escape

from iscl_node.cli.terminal import err, out
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
