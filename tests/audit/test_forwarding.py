"""From the journal to a syslog server over TLS: in order, and nothing lost whoever goes away."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest
from audit_schema import faults
from certificates import Authority
from prometheus_client import CollectorRegistry
from syslog_receiver import SyslogReceiver

from iscl_node.assembly.auditing import connected
from iscl_node.audit import forwarding as forwarding_module
from iscl_node.audit.forwarding import Forwarding
from iscl_node.audit.journal import Journal, Position
from iscl_node.audit.messages import Messages
from iscl_node.audit.schema import AuditSource
from iscl_node.audit.syslog import SyslogConnection, framed, syslog_line
from iscl_node.domain import ModelIdentity, SyslogServer, Tls
from iscl_node.metrics import Metrics
from iscl_node.network.tls import server_context

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MESSAGES = Messages(AuditSource("node-1"), "ISCL_NODE", "ct-node", ModelIdentity("m", "1", "a"), "b")
PATIENCE_SECONDS = 60


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding_module, "_SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(forwarding_module, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(forwarding_module, "_LAST_WAIT_SECONDS", 0.1)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "audit", 1 << 30)


Start = Callable[[Callable[[], SyslogConnection]], Forwarding]


@pytest.fixture
def start(journal: Journal) -> Iterator[Start]:
    running: list[Forwarding] = []

    def begin(connect: Callable[[], SyslogConnection]) -> Forwarding:
        running.append(Forwarding(journal, connect, Metrics(CollectorRegistry()), 0.02))
        running[-1].start()
        return running[-1]

    yield begin
    for each in running:
        each.stop(PATIENCE_SECONDS)
        assert not each._thread.is_alive()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Tls:
    return authority.issue("node")


@pytest.fixture(scope="module")
def servers(authority: Authority) -> Tls:
    return authority.issue("syslog")


def distinct(messages: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(messages))


def test_a_line_is_a_syslog_message() -> None:
    """RFC 5424 6 and PS3.15 A.6: facility 10, severity 5 or 4, MSGID; the XML is whole behind the BOM."""
    line = syslog_line(MESSAGES.application_started(NOW), "ct node")
    header, xml = line.split(b"\xef\xbb\xbf")
    time_pattern = r"2026-03-01T\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d"
    assert re.fullmatch(rf"<85>1 {time_pattern} ctnode iscl-node \d+ DICOM\+RFC3881 - ", header.decode())
    assert not faults(ElementTree.fromstring(xml))
    alert = syslog_line(MESSAGES.authentication_failed(NOW, "10.9.9.9", "EVIL", "user identity", 0), "Ä")
    assert re.match(rb"<84>1 \S+ - iscl-node ", alert)
    assert framed("Ä".encode()) == b"2 \xc3\x84"


def test_messages_go_over_tls_with_both_certificates(journal: Journal, start: Start, ours: Tls, servers: Tls) -> None:
    lines = [syslog_line(MESSAGES.application_started(NOW), "h"), b"\xef\xbb\xbf" + "ÄÖ".encode() * 20_000]
    for line in lines:
        journal.append(line)
    with SyslogReceiver(context=server_context(servers)) as receiver:
        forwarding = start(lambda: connected(SyslogServer("localhost", receiver.port, ours)))
        wait_for(lambda: journal.bytes_behind(journal.position()) == 0, "all is sent")
        assert receiver.messages == lines
        journal.append(b"one more")
        wait_for(lambda: receiver.messages == [*lines, b"one more"], "the next one is sent, too")
        forwarding.stop(PATIENCE_SECONDS)
        assert receiver.connections == 1


@pytest.mark.parametrize("wrong", ["authority", "name", "no TLS"])
@pytest.mark.fault(
    "machine",
    "the syslog server has another authority's certificate or name, or no TLS",
    "it gets nothing; the messages wait",
)
def test_a_server_that_is_not_ours_gets_nothing(
    journal: Journal, ours: Tls, servers: Tls, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    tls = {
        "authority": Authority(tmp_path, "other").issue("syslog"),
        "name": authority.issue("stranger", names=None),
        "no TLS": servers,
    }[wrong]
    journal.append(b"message")
    with SyslogReceiver(context=None if wrong == "no TLS" else server_context(tls)) as receiver:
        metrics = Metrics(CollectorRegistry())
        forwarding = Forwarding(
            journal, lambda: connected(SyslogServer("localhost", receiver.port, ours)), metrics, 0.02
        )
        forwarding.start()
        wait_for(lambda: receiver.connections >= 2, "it tries again")
        forwarding.stop(PATIENCE_SECONDS)
        assert b"message" not in b"".join(receiver.messages)
    assert metrics.registry.get_sample_value("iscl_node_audit_waiting_bytes") == len(b"message\n")


def test_metrics_say_how_much_waits_and_how_long(journal: Journal) -> None:
    metrics = Metrics(CollectorRegistry())
    Forwarding(journal, lambda: SyslogConnection("127.0.0.1", 1), metrics)
    names = ("iscl_node_audit_waiting_bytes", "iscl_node_audit_oldest_waiting_seconds")
    assert [metrics.registry.get_sample_value(name) for name in names] == [0, 0]
    lines = [syslog_line(MESSAGES.application_started(datetime.now(UTC) - timedelta(hours=age)), "h") for age in (2, 1)]
    for line in lines:
        journal.append(line)
    waiting, oldest = [metrics.registry.get_sample_value(name) for name in names]
    assert waiting == sum(len(line) + 1 for line in lines)
    assert oldest == pytest.approx(7200, abs=PATIENCE_SECONDS)


@pytest.mark.fault(
    "machine",
    "the syslog server goes away, with messages unread, and comes back",
    "it gets all, in their order; those that it may have read it gets twice",
)
def test_a_server_that_goes_away_and_comes_back_misses_nothing(journal: Journal, start: Start) -> None:
    written = [b"message %d " % number + b"x" * 2000 for number in range(200)]
    deaf = SyslogReceiver(unread=True)
    port = deaf.port

    class ConnectionToTheDeaf(SyslogConnection):
        def send(self, lines: Sequence[bytes]) -> None:
            super().send(lines)
            deaf.close()

    for line in written[:50]:
        journal.append(line)
    start(lambda: ConnectionToTheDeaf("127.0.0.1", port))
    for line in written[50:100]:
        journal.append(line)
    with SyslogReceiver(wait_until_free(deaf)) as receiver:
        wait_for(lambda: len(distinct(receiver.messages)) >= 100, "what waited is sent")
        first = list(receiver.messages)
    for line in written[100:]:
        journal.append(line)
    with SyslogReceiver(port) as receiver:
        wait_for(lambda: journal.bytes_behind(journal.position()) == 0, "the rest is sent")
        assert distinct([*first, *receiver.messages]) == written


def wait_until_free(receiver: SyslogReceiver) -> int:
    """The port of a receiver that somebody else closes."""
    wait_for(lambda: receiver.is_closed, "it is closed")
    return receiver.port


@pytest.mark.fault(
    "machine", "a stop of the node while the syslog server is away", "the next start goes on where the server stopped"
)
def test_a_restart_goes_on_where_it_was(journal: Journal, start: Start) -> None:
    for number in range(3):
        journal.append(b"message %d" % number)
    with SyslogReceiver() as receiver:
        first = start(lambda: SyslogConnection("127.0.0.1", receiver.port))
        wait_for(lambda: journal.bytes_behind(journal.position()) == 0, "all is sent")
        first.stop(PATIENCE_SECONDS)
        port = receiver.port
    start(lambda: SyslogConnection("127.0.0.1", port)).stop(PATIENCE_SECONDS)
    journal.append(b"message 3")
    with SyslogReceiver(port) as receiver:
        start(lambda: SyslogConnection("127.0.0.1", port))
        wait_for(lambda: receiver.messages == [b"message 3"], "only what it does not have")


def test_no_fault_ends_the_thread_that_sends(journal: Journal, start: Start) -> None:
    journal.append(b"message")
    faults: list[Exception] = [UnicodeError("label empty or too long"), RuntimeError("unforeseen")]

    def connect() -> SyslogConnection:
        if faults:
            raise faults.pop()
        return SyslogConnection("127.0.0.1", receiver.port)

    with SyslogReceiver() as receiver:
        start(connect)
        wait_for(lambda: receiver.messages == [b"message"], "it is sent in the end")


def test_a_stop_sends_what_was_recorded_last(journal: Journal, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def messages(position: Position, at_most: int) -> list[tuple[Position, bytes]]:
        looks.append(at_most)
        return Journal.messages(journal, position, at_most)

    monkeypatch.setattr(journal, "messages", messages)
    monkeypatch.setattr(forwarding_module, "_POLL_SECONDS", 2)
    with SyslogReceiver() as receiver:
        forwarding = start(lambda: SyslogConnection("127.0.0.1", receiver.port))
        wait_for(lambda: forwarding_module._AT_A_TIME in looks, "it has looked for messages")
        journal.append(b"the node stops")
        forwarding.stop(PATIENCE_SECONDS)
        wait_for(lambda: receiver.messages == [b"the node stops"], "it is sent")


def test_what_is_sent_is_not_arrived_before_the_server_acknowledged_it() -> None:
    with SyslogReceiver(unread=True) as receiver, SyslogConnection("127.0.0.1", receiver.port) as connection:
        assert connection.has_arrived()
        connection._socket.setblocking(False)
        with suppress(BlockingIOError):  # when the buffers of both ends are full
            while True:
                connection._socket.send(b"x" * 100_000)
        assert not connection.has_arrived()
