"""The trail never fails who brings a message, and says what it could not keep."""

import errno
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from iscl_node.audit import trail as trail_module
from iscl_node.audit.messages import Messages
from iscl_node.audit.refusals import RefusedCallers
from iscl_node.audit.schema import AuditMessage, AuditSource
from iscl_node.audit.trail import Trail
from iscl_node.domain import ModelIdentity
from iscl_node.metrics import Metrics

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MESSAGES = Messages(AuditSource("node-1"), "ISCL_NODE", "ct-node", ModelIdentity("m", "1", "a"), "b")


class Place:
    """Takes lines while it has room."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.has_room = True

    def append(self, line: bytes) -> None:
        if not self.has_room:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.lines.append(line)


def told(message: AuditMessage) -> bytes:
    """Short for a message: what it describes, or its time."""
    return (message.event.outcome_description or str(message.event.time.minute)).encode()


def recording(*places: Place) -> tuple[Trail, Callable[[int], None], Metrics]:
    metrics = Metrics(CollectorRegistry())
    named = {str(number): place.append for number, place in enumerate(places)}
    trail = Trail(named, told, lambda lost: MESSAGES.recording_resumed(NOW, lost), metrics)
    return trail, lambda minute: trail.record(MESSAGES.application_started(NOW.replace(minute=minute))), metrics


@pytest.mark.fault(
    "machine",
    "the disk takes no audit messages for a time",
    "they wait in memory, with an alert, and are written in their order when it does; no image waits",
)
def test_messages_wait_in_memory_for_a_disk_that_is_full() -> None:
    full, other = Place(), Place()
    trail, record, metrics = recording(full, other)
    record(0)
    full.has_room = False
    record(1)
    record(2)
    assert (full.lines, other.lines) == ([b"0"], [b"0", b"1", b"2"])
    assert metrics.registry.get_sample_value("iscl_node_audit_unwritten") == 2
    full.has_room = True
    trail.start()
    trail.stop()
    assert full.lines == other.lines == [b"0", b"1", b"2"]
    assert metrics.registry.get_sample_value("iscl_node_audit_unwritten") == 0
    recorded = metrics.registry.get_sample_value("iscl_node_audit_messages_total", {"event": "Application Activity"})
    assert recorded == 3


def test_whatever_a_place_raises_fails_nobody_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    odd, other = Place(), Place()
    _, record, metrics = recording(odd, other)
    with monkeypatch.context() as patch:
        patch.setattr(odd, "lines", None)
        record(0)
        assert other.lines == [b"0"]
        assert metrics.registry.get_sample_value("iscl_node_audit_unwritten") == 1
    record(1)
    assert odd.lines == other.lines == [b"0", b"1"]


@pytest.mark.parametrize("drained_by", ["a message", "time"])
def test_a_gap_is_told_in_the_trail_itself(monkeypatch: pytest.MonkeyPatch, drained_by: str) -> None:
    monkeypatch.setattr(trail_module, "_IN_MEMORY", 2)
    place = Place()
    place.has_room = False
    trail, record, metrics = recording(place)
    for minute in range(5):
        record(minute)
    assert metrics.registry.get_sample_value("iscl_node_audit_lost_total") == 3
    place.has_room = True
    gap = b"3 audit messages were lost before this one: the trail was full"
    if drained_by == "time":
        trail._write()
        assert place.lines == [b"0", b"1", gap]
        record(5)
        assert place.lines == [b"0", b"1", gap, b"5"]
    else:
        place.has_room = False
        record(6)
        place.has_room = True
        trail._write()
        assert place.lines == [b"0", b"1", gap.replace(b"3", b"4")]


def test_a_caller_is_told_once_a_minute_with_how_often_it_tried() -> None:
    now, alerts = [0.0], []
    callers = RefusedCallers(lambda *alert: alerts.append(alert), lambda: now[0])
    for _ in range(100):
        callers.refused("10.9.9.9", "EVIL", "user identity")
    callers.refused("10.9.9.9", "OTHER", "user identity")
    assert alerts == [("10.9.9.9", "EVIL", "user identity", 0), ("10.9.9.9", "OTHER", "user identity", 0)]
    now[0] = 59
    callers.tick()
    assert len(alerts) == 2
    now[0] = 61
    callers.tick()
    assert alerts[2:] == [("10.9.9.9", "EVIL", "user identity", 99)]
    now[0] = 125
    callers.tick()
    callers.refused("10.9.9.9", "EVIL", "user identity")
    assert alerts[3:] == [("10.9.9.9", "EVIL", "user identity", 0)]


@pytest.mark.fault(
    "peers",
    "strangers call under ever new AE titles",
    "a thousand a minute have an audit message each, further ones a number",
)
def test_a_flood_of_names_is_told_as_one_caller() -> None:
    now, alerts = [0.0], []
    callers = RefusedCallers(lambda *alert: alerts.append(alert), lambda: now[0])
    for number in range(5000):
        callers.refused("10.9.9.9", f"EVIL{number}", "calling AE title")
    assert len(alerts) == 1001
    assert alerts[-1] == ("10.9.9.9", "", "calling AE title", 0)
    now[0] = 61
    callers.tick()
    assert alerts[1001:] == [("10.9.9.9", "", "calling AE title", 3999)]
