"""What a batch must have in common with the series' earlier batches: it joins the derived series that was sent."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from iscl_node.dicom.reading.folder import Instance, read_instance
from iscl_node.domain import FIRST_UID_SCHEME, UID_SCHEME, Batch
from iscl_node.errors import RetryLaterError
from iscl_node.store.batches.earlier import earlier_instances, oldest_sent
from iscl_node.store.records.plan import kept_plan, plan_in
from iscl_node.store.spool import Spool


def uid_scheme_of(plan: Mapping[str, Any] | None) -> str:
    """The scheme of UIDs of a batch whose derived instances were made; releases that had one only wrote none down."""
    rule = (plan or {}).get("rule") or {}
    return str(rule.get("uid_scheme") or FIRST_UID_SCHEME)


def begun_uid_scheme(spool: Spool, batch: Batch) -> str:
    """The scheme for a batch: that of the series' earlier batches, or of an earlier release.

    A late slice joins the derived series that was sent, also one of another scheme.
    """
    earlier = oldest_sent(spool.root, batch)
    if earlier is not None:
        return uid_scheme_of(plan_in(earlier))
    is_begun = bool(spool.derived_instances(batch))
    return uid_scheme_of(kept_plan(spool.root, batch)) if is_begun else UID_SCHEME


def processed_before(root: Path, batch: Batch, read: Callable[[Path], Instance] = read_instance) -> list[Instance]:
    """The instances of the series' earlier batches, as ``read`` has them: what comes late is judged with them.

    Raises
    ------
    RetryLaterError
        If one of the batches moves on.
    """
    try:
        return [read(path) for path in earlier_instances(root, batch)]
    except FileNotFoundError as error:
        raise RetryLaterError("an earlier batch of the series moves in the spool") from error
