"""Who sends, or receives, does not sleep while there is something to do."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import CT_IMAGE
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from scripted_peers import ScriptedStorageScp, running, wait_until

from iscl_node.domain import ReceivedInstance
from iscl_node.metrics import Metrics
from iscl_node.network.patches import wake_ups
from iscl_node.network.scp.storage_scp import StorageScp
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


@pytest.fixture
def received() -> list[ReceivedInstance]:
    return []


@pytest.fixture
def scp(metrics: Metrics, received: list[ReceivedInstance]) -> Iterator[StorageScp]:
    scp = StorageScp(
        ae_title="ISCL_NODE",
        host="127.0.0.1",
        port=0,
        peers=[],
        accept_unknown_peers=True,
        receive=received.append,
        metrics=metrics,
    )
    scp.start()
    yield scp
    scp.stop()


def exchange(port: int, files: list[Path], end: str) -> None:
    """What a sender does on one association."""
    contexts = [build_context(CT_IMAGE, "1.2.840.10008.1.2.1"), build_context(Verification)]
    association = AE("SENDER").associate("127.0.0.1", port, contexts=contexts, ae_title="ISCL_NODE")
    assert association.is_established
    assert association.send_c_echo().Status == 0
    for path in files:
        assert association.send_c_store(path).Status == 0
    getattr(association, end)()


@pytest.mark.parametrize("end", ["release", "abort"])
def test_who_receives_is_woken_by_all_that_comes(
    make_ct_files, scp: StorageScp, received: list[ReceivedInstance], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Were one request, answer, release or abort not heard of, the test would take an hour."""
    files: list[Path] = make_ct_files(3)
    monkeypatch.setattr(wake_ups, "_LOOK_SECONDS", 3600)
    before = threading.active_count()
    sender = threading.Thread(target=exchange, args=(scp.port, files, end), daemon=True)
    sender.start()
    sender.join(PATIENCE_SECONDS)
    assert not sender.is_alive()
    assert len(received) == 3
    wait_until(lambda: threading.active_count() <= before)
