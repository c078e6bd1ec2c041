"""Peers that would keep others out: half-open, silent, slow, lying about lengths, too many, too large."""

import resource
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.presentation import build_context
from scripted_peers import dcmtk, storescu, wait_until

from iscl_node.domain import CT_IMAGE_STORAGE, ReceivedInstance, ReceptionLimits
from iscl_node.metrics import Metrics
from iscl_node.network.scp.storage_scp import StorageScp

EXPLICIT = "1.2.840.10008.1.2.1"
A_ASSOCIATE_RQ, P_DATA_TF = 0x01, 0x04
MEBIBYTE = 1 << 20

Start = Callable[..., StorageScp]


@pytest.fixture
def start(metrics: Metrics) -> Iterator[Start]:
    with ExitStack() as stack:

        def start_scp(
            receive: Callable[[ReceivedInstance], None] = lambda instance: None, **limits: float
        ) -> StorageScp:
            scp = StorageScp(
                ae_title="ISCL_NODE",
                host="127.0.0.1",
                port=0,
                peers=[],
                accept_unknown_peers=True,
                receive=receive,
                metrics=metrics,
                limits=ReceptionLimits(**limits),  # type: ignore[arg-type]  # as named
            )
            scp.start()
            stack.callback(scp.stop)
            return scp

        yield start_scp


def associate(scp: StorageScp, calling: str = "SCANNER") -> Association:
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    contexts = [build_context(CT_IMAGE_STORAGE, EXPLICIT)]
    return entity.associate("127.0.0.1", scp.port, contexts=contexts, ae_title="ISCL_NODE", max_pdu=0)


def echoes(scp: StorageScp) -> bool:
    command = [dcmtk("echoscu"), "-aec", "ISCL_NODE", "-to", "10", "127.0.0.1", str(scp.port)]
    return subprocess.run(command, timeout=60).returncode == 0


def connected(scp: StorageScp) -> socket.socket:
    return socket.create_connection(("127.0.0.1", scp.port), timeout=20)


@contextmanager
def half_open(scp: StorageScp, count: int, first_bytes: bytes = b"\x01\x00") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(connected(scp)) for _ in range(count)]
        for each in sockets:
            each.sendall(first_bytes)
        yield sockets


def is_dropped(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def refused(metrics: Metrics, reason: str) -> float:
    value = metrics.registry.get_sample_value("iscl_node_refused_connections_total", {"reason": reason})
    return value or 0.0


def acceptor_threads() -> int:
    return sum("AcceptorThread" in thread.name for thread in threading.enumerate())


@pytest.mark.fault("peers", "30 half-open connections", "C-ECHO and C-STORE of another client succeed")
def test_half_open_connections_keep_nobody_out(start: Start, ct_file: Path, metrics: Metrics) -> None:
    scp = start(half_open=8, associations=2)
    with half_open(scp, 30):
        assert echoes(scp)
        assert storescu(scp.port, [ct_file]).returncode == 0
        assert acceptor_threads() <= 8
        assert refused(metrics, "too many half-open connections") >= 22


@pytest.mark.fault(
    "peers",
    "an association request that stops, or comes byte by byte",
    "dropped after `request_seconds`, and counted",
)
def test_a_half_open_connection_is_dropped_in_time_however_it_dribbles(start: Start, metrics: Metrics) -> None:
    scp = start(request_seconds=0.5)
    request = struct.pack(">BxL", A_ASSOCIATE_RQ, 200)
    with half_open(scp, 1) as (silent,), half_open(scp, 1, request) as (dribbling,):
        stop = threading.Event()

        def dribble() -> None:
            while not stop.wait(0.02):
                try:
                    dribbling.sendall(b"\0")
                except OSError:
                    return

        thread = threading.Thread(target=dribble)
        thread.start()
        assert is_dropped(silent)
        assert is_dropped(dribbling)
        stop.set()
        thread.join()
    assert refused(metrics, "no association request in time") == 2
    wait_until(lambda: acceptor_threads() == 0)


@pytest.mark.fault("peers", "silent connections", "another client is answered; they are dropped, and counted")
def test_a_silent_connection_costs_no_threads_of_pynetdicom(start: Start, metrics: Metrics) -> None:
    scp = start(request_seconds=0.5)
    with half_open(scp, 5, b"") as silent:
        assert echoes(scp)
        wait_until(lambda: acceptor_threads() == 0)
        assert all(is_dropped(each) for each in silent)
    assert refused(metrics, "no association request in time") == 5


@pytest.mark.fault(
    "peers",
    "half-open connections that are closed by the peer",
    "their threads end without waiting for `request_seconds`",
)
def test_a_closed_half_open_connection_takes_its_thread_with_it(start: Start) -> None:
    scp = start(request_seconds=60)
    with half_open(scp, 3):
        wait_until(lambda: acceptor_threads() == 3)
    wait_until(lambda: acceptor_threads() == 0, seconds=5)


@pytest.mark.fault(
    "peers", "more associations than `max_associations`", "rejected as transient; with one less the next is taken"
)
def test_more_associations_than_allowed_are_rejected_as_transient(start: Start, metrics: Metrics) -> None:
    scp = start(associations=2, associations_per_host=2)
    first, second, third = (associate(scp) for _ in range(3))
    assert first.is_established
    assert second.is_established
    assert third.is_rejected
    answer = third.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
    assert refused(metrics, "too many associations") == 1
    first.release()
    wait_until(lambda: acceptor_threads() == 1)
    fourth = associate(scp)
    assert fourth.is_established
    second.release()
    fourth.release()


@pytest.mark.fault(
    "peers", "one host opens more associations than `max_associations_per_host`", "rejected, and counted"
)
def test_one_host_gets_no_more_than_its_share(start: Start, metrics: Metrics) -> None:
    scp = start(associations=8, associations_per_host=1)
    first, second = associate(scp), associate(scp)
    assert second.is_rejected
    assert refused(metrics, "too many associations of one host") == 1
    first.release()


def test_storescu_hears_that_it_may_try_again(start: Start, ct_file: Path) -> None:
    scp = start(associations_per_host=1)
    first = associate(scp)
    done = storescu(scp.port, [ct_file])
    assert "Local Limit Exceeded" in done.stderr
    first.release()


@pytest.mark.parametrize("pdu_type", [A_ASSOCIATE_RQ, P_DATA_TF])
@pytest.mark.fault("peers", "a PDU that announces 300 MiB", "the connection is dropped, the memory does not grow")
def test_an_announced_length_costs_no_memory(start: Start, metrics: Metrics, pdu_type: int) -> None:
    scp = start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(4):
        with connected(scp) as liar:
            liar.sendall(struct.pack(">BxL", pdu_type, 300 * MEBIBYTE))
            assert is_dropped(liar)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KiB
    assert refused(metrics, "PDU too long") == 4


@pytest.mark.fault("peers", "a PDU longer than was negotiated", "the association ends, and it is counted")
def test_a_pdu_beyond_the_negotiated_maximum_ends_the_association(start: Start, metrics: Metrics) -> None:
    association = associate(start())
    association.dul.socket.socket.sendall(struct.pack(">BxL", P_DATA_TF, 200_000) + bytes(200_000))
    wait_until(lambda: not association.is_established)
    assert refused(metrics, "PDU too long") == 1


@pytest.mark.fault(
    "peers", "a PDU that arrives byte by byte", "the connection is dropped after `pdu_seconds`, and counted"
)
def test_an_established_peer_that_dribbles_a_pdu_is_dropped(start: Start, metrics: Metrics) -> None:
    association = associate(start(pdu_seconds=0.4))
    connection = association.dul.socket.socket
    connection.sendall(struct.pack(">BxL", P_DATA_TF, 1000))
    for _ in range(100):
        if association.dul.socket.socket is None or not association.is_established:
            break
        try:
            connection.sendall(b"\0")
        except OSError:
            break
        threading.Event().wait(0.05)
    wait_until(lambda: refused(metrics, "PDU too slow") == 1)
    wait_until(lambda: acceptor_threads() == 0)


@pytest.mark.fault("peers", "an association on which nothing happens", "ended after `idle_seconds`")
def test_an_idle_association_is_ended(start: Start) -> None:
    association = associate(start(idle_seconds=0.3))
    wait_until(lambda: association.is_aborted)


def large_ct(ct_file: Path, tmp_path: Path, size: int, name: str = "large.dcm") -> Path:
    dataset = pydicom.dcmread(ct_file)
    dataset.add_new(0x00091001, "OB", bytes(size))
    path = tmp_path / name
    dataset.save_as(path)
    return path


@pytest.mark.fault(
    "reception",
    "a data set larger than `max_instance_bytes`",
    "0xA700 with the setting's name; the next instance on the association is stored",
)
def test_a_data_set_beyond_the_limit_gets_a700_and_the_association_goes_on(
    start: Start, ct_file: Path, tmp_path: Path
) -> None:
    instances: list[ReceivedInstance] = []
    scp = start(instances.append, instance_bytes=MEBIBYTE)
    association = associate(scp)
    response = association.send_c_store(large_ct(ct_file, tmp_path, 3 * MEBIBYTE))
    assert response.Status == 0xA700
    assert response.ErrorComment == "larger than scp.max_instance_bytes"
    assert instances == []
    assert association.send_c_store(ct_file).Status == 0x0000
    association.release()


@pytest.mark.fault(
    "reception", "all senders together exceed `max_receiving_bytes`", "0xA700 for the one too much; later it is stored"
)
def test_all_peers_together_get_no_more_memory_than_allowed(start: Start, ct_file: Path, tmp_path: Path) -> None:
    entered, safe = threading.Event(), threading.Event()

    def receive(instance: ReceivedInstance) -> None:
        entered.set()
        assert safe.wait(20)

    large = large_ct(ct_file, tmp_path, 2 * MEBIBYTE)
    scp = start(receive, receiving_bytes=3 * MEBIBYTE)
    first, second = associate(scp), associate(scp)
    statuses: list[int] = []
    sender = threading.Thread(target=lambda: statuses.append(first.send_c_store(large).Status))
    sender.start()
    assert entered.wait(20)
    response = second.send_c_store(large)
    assert (response.Status, response.ErrorComment) == (0xA700, "scp.max_receiving_bytes are being received")
    safe.set()
    sender.join(20)
    assert statuses == [0x0000]
    assert second.send_c_store(large).Status == 0x0000
    first.release()
    second.release()


@pytest.mark.fault(
    "reception",
    "one sender holds nearly all of `max_receiving_bytes`",
    "a slice of another sender is stored all the same",
)
def test_an_associations_share_is_always_granted(start: Start, ct_file: Path, tmp_path: Path) -> None:
    received, safe = threading.Semaphore(0), threading.Event()

    def receive(instance: ReceivedInstance) -> None:
        received.release()
        assert safe.wait(20)

    scp = start(receive, receiving_bytes=2 * MEBIBYTE, associations=4, associations_per_host=4)
    large = large_ct(ct_file, tmp_path, 2 * MEBIBYTE - 100_000)
    slice_ = large_ct(ct_file, tmp_path, 300_000, "slice.dcm")
    first, second = associate(scp), associate(scp)
    statuses: list[int] = []
    senders = []
    for association, file in ((first, large), (second, slice_)):
        sender = threading.Thread(
            target=lambda association=association, file=file: statuses.append(association.send_c_store(file).Status)
        )
        sender.start()
        senders.append(sender)
        assert received.acquire(timeout=20)
    safe.set()
    for sender in senders:
        sender.join(20)
    assert statuses == [0x0000, 0x0000]
    first.release()
    second.release()


def p_data(*fragments: bytes) -> bytes:
    items = b"".join(struct.pack(">LB", len(each) + 1, 1) + each for each in fragments)
    return struct.pack(">BxL", P_DATA_TF, len(items)) + items


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (p_data(b"\x01" + bytes(20_000)), "command set too long"),
        (p_data(b""), "fragment without message control header"),
        (p_data(b"\x03garbage"), "not a DIMSE message"),
    ],
)
@pytest.mark.fault(
    "peers",
    "garbage in place of a DIMSE message, an endless command set, an empty fragment",
    "the connection is dropped, and counted with the reason",
)
def test_a_peer_that_breaks_the_protocol_loses_its_connection(
    start: Start, metrics: Metrics, sent: bytes, reason: str
) -> None:
    association = associate(start())
    association.dul.socket.socket.sendall(sent)
    wait_until(lambda: not association.is_established)
    assert refused(metrics, reason) == 1
    wait_until(lambda: acceptor_threads() == 0)


@pytest.mark.fault("peers", "requests without waiting for the responses", "the connection is dropped, and counted")
def test_a_peer_that_does_not_wait_for_responses_loses_its_connection(
    start: Start, metrics: Metrics, ct_file: Path
) -> None:
    entered, safe = threading.Event(), threading.Event()

    def receive(instance: ReceivedInstance) -> None:
        entered.set()
        assert safe.wait(20)

    association = associate(start(receive))
    sender = threading.Thread(target=association.send_c_store, args=(ct_file,))
    sender.start()
    assert entered.wait(20)
    for number in range(20):
        request = C_ECHO()
        request.MessageID, request.AffectedSOPClassUID = number, "1.2.840.10008.1.1"
        association.dimse.send_msg(request, 1)
    wait_until(lambda: refused(metrics, "requests without waiting for responses") > 0)
    safe.set()
    sender.join(20)
    wait_until(lambda: acceptor_threads() == 0)


def associate_rq(*items: bytes) -> bytes:
    """An A-ASSOCIATE-RQ with these items behind the application context (PS3.8 9.3.2)."""
    application_context = b"\x10\0\0\x15" + b"1.2.840.10008.3.1.1.1"
    body = (
        b"\0\1\0\0" + b"ISCL_NODE".ljust(16) + b"SCANNER".ljust(16) + bytes(32) + application_context + b"".join(items)
    )
    return struct.pack(">BxL", A_ASSOCIATE_RQ, len(body)) + body


def item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


TRANSFER_SYNTAX = item(0x40, EXPLICIT.encode())
VERIFICATION = item(0x30, b"1.2.840.10008.1.1")
MAXIMUM_LENGTH = item(0x51, b"\0\0\x40\0")
CLASS_UID = item(0x52, b"1.2.3")


@pytest.mark.parametrize(
    "request_pdu",
    [
        associate_rq(item(0x20, b"\1\0\0\0" + TRANSFER_SYNTAX), item(0x50, MAXIMUM_LENGTH + CLASS_UID)),
        associate_rq(
            item(0x20, b"\1\0\0\0" + VERIFICATION + TRANSFER_SYNTAX),
            item(0x50, MAXIMUM_LENGTH + CLASS_UID + item(0x58, b"\6\0\0\1u\0\0")),
        ),
    ],
    ids=["a context without an abstract syntax", "a user identity of no known type"],
)
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.fault(
    "peers",
    "an association request that lacks what it must hold, or holds what it must not",
    "aborted or dropped at once, and counted",
)
def test_an_association_request_that_breaks_the_rules_is_aborted(
    start: Start, metrics: Metrics, request_pdu: bytes
) -> None:
    with connected(start(request_seconds=60)) as connection:
        connection.sendall(request_pdu)
        assert connection.recv(1) in (b"\x07", b"")
    assert refused(metrics, "not a PDU") == 1
    wait_until(lambda: acceptor_threads() == 0)
