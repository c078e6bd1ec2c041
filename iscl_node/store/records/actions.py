"""Who decided what on the page: one JSON object a line, in the root of the spool; nothing removes it."""

import json
from datetime import datetime
from pathlib import Path

from iscl_node.store.durable import append_synced
from iscl_node.store.log_key import log_name

ACTIONS_FILE = "actions.jsonl"


def note_action(root: Path, event: str, user: str, series_uid: str, now: datetime) -> None:
    """Add a line, durably; it has no UID but what the log has for it, so that it can be kept for ever.

    Raises
    ------
    OSError
        The disk refuses it.
    """
    entry = {"time": now.isoformat(timespec="seconds"), "event": event, "user": user}
    entry["series"] = log_name(root, series_uid)
    append_synced(root / ACTIONS_FILE, json.dumps(entry).encode() + b"\n")
