"""Who sends does not sleep while there is something to do."""

import threading
from pathlib import Path

import pytest
from scripted_peers import ScriptedStorageScp, running, wait_until

from iscl_node.metrics import Metrics
from iscl_node.network.patches import wake_ups
from iscl_node.network.scu.storage_scu import send

PATIENCE_SECONDS = 90


def test_each_request_and_each_response_wakes_it_up(
    make_ct_files, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were one of them not heard of, the test would take an hour."""
    files: list[Path] = make_ct_files(3)
    scp = ScriptedStorageScp([])
    with running(scp) as peer:
        monkeypatch.setattr(wake_ups, "_LOOK_SECONDS", 3600)
        sender = threading.Thread(target=send, args=(peer, "ISCL_NODE", files, metrics), daemon=True)
        sender.start()
        sender.join(PATIENCE_SECONDS)
        assert not sender.is_alive()
        wait_until(lambda: scp.ends == ["released"])
    assert scp.message_ids == [1, 2, 3]
