"""DICOM over TLS, in and out, with DCMTK as the peer; and peers that must not get in."""

import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from certificates import Authority
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from scripted_peers import dcmtk, storescu, wait_until

from iscl_node.domain import Peer, ReceivedInstance, ReceptionLimits, Tls
from iscl_node.errors import ConfigurationError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.network.scu.verification import echo
from iscl_node.network.tls import days_left, expiry_timestamp, server_context

Start = Callable[..., StorageScp]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Tls:
    return authority.issue("node")


@pytest.fixture(scope="module")
def scanner(authority: Authority) -> Tls:
    return authority.issue("scanner")


@pytest.fixture
def start(metrics: Metrics) -> Iterator[Start]:
    with ExitStack() as stack:

        def start_scp(tls: Tls, instances: list[ReceivedInstance] | None = None, **limits: float) -> StorageScp:
            scp = StorageScp(
                ae_title="ISCL_NODE",
                host="127.0.0.1",
                port=0,
                peers=[],
                accept_unknown_peers=True,
                receive=([] if instances is None else instances).append,
                metrics=metrics,
                limits=ReceptionLimits(**limits),  # type: ignore[arg-type]  # as named
                tls=tls,
            )
            scp.start()
            stack.callback(scp.stop)
            return scp

        yield start_scp


def options(tls: Tls) -> list[str]:
    return ["+tls", str(tls.key), str(tls.certificate), "+cf", str(tls.ca)]


def handshakes_refused(metrics: Metrics) -> float:
    labels = {"reason": "TLS handshake failed"}
    return metrics.registry.get_sample_value("iscl_node_refused_connections_total", labels) or 0.0


@pytest.fixture
def archive(authority: Authority) -> Iterator[Callable[..., Peer]]:
    """An archive with TLS that answers C-ECHO."""
    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(Verification)

    def listen(tls: Tls, context: ssl.SSLContext | None = None) -> Peer:
        server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=context or server_context(tls))
        return Peer("archive", "ARCHIVE", "127.0.0.1", server.server_address[1])

    yield listen
    entity.shutdown()


def test_storescu_sends_over_tls(start: Start, ours: Tls, scanner: Tls, ct_file: Path) -> None:
    instances: list[ReceivedInstance] = []
    done = storescu(start(ours, instances).port, [ct_file], *options(scanner))
    assert done.returncode == 0, done.stderr
    assert len(instances) == 1


@pytest.mark.parametrize("credentials", [[], ["+tla", "-ic"]], ids=["without-tls", "without-certificate"])
@pytest.mark.fault(
    "peers",
    "with TLS required: a client without TLS or without a certificate",
    "the handshake fails, counted; nothing is stored",
)
def test_who_has_no_certificate_does_not_get_in(
    start: Start, ours: Tls, ct_file: Path, metrics: Metrics, credentials: list[str]
) -> None:
    instances: list[ReceivedInstance] = []
    assert storescu(start(ours, instances).port, [ct_file], *credentials).returncode != 0
    wait_until(lambda: handshakes_refused(metrics) == 1)
    assert instances == []


@pytest.mark.fault("peers", "a certificate of another authority", "the handshake fails, and is counted")
def test_a_certificate_of_another_authority_does_not_get_in(
    start: Start, ours: Tls, ct_file: Path, metrics: Metrics, tmp_path: Path
) -> None:
    stranger = replace(Authority(tmp_path, "elsewhere").issue("scanner"), ca=ours.ca)
    assert storescu(start(ours).port, [ct_file], *options(stranger)).returncode != 0
    wait_until(lambda: handshakes_refused(metrics) == 1)


@pytest.mark.fault("peers", "an expired certificate", "the handshake fails, and is counted")
def test_an_expired_certificate_does_not_get_in(
    start: Start, ours: Tls, authority: Authority, ct_file: Path, metrics: Metrics
) -> None:
    assert storescu(start(ours).port, [ct_file], *options(authority.issue("old", days=-1))).returncode != 0
    wait_until(lambda: handshakes_refused(metrics) == 1)


@pytest.mark.fault("peers", "a client that speaks TLS 1.1 at most", "the handshake fails, and is counted")
def test_tls_1_1_is_not_spoken(start: Start, ours: Tls, metrics: Metrics) -> None:
    scp = start(ours)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", scp.port)) as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection)
    wait_until(lambda: handshakes_refused(metrics) == 1)


@pytest.mark.fault(
    "peers", "31 clients stop in the middle of their TLS handshake", "C-ECHO and C-STORE of another client succeed"
)
def test_30_half_open_connections_and_a_silent_tls_client_keep_nobody_out(
    start: Start, ours: Tls, scanner: Tls, ct_file: Path
) -> None:
    scp = start(ours)
    with ExitStack() as stack:
        for _ in range(31):
            stack.enter_context(socket.create_connection(("127.0.0.1", scp.port))).sendall(b"\x16\x03")
        command = [dcmtk("echoscu"), "-aec", "ISCL_NODE", *options(scanner), "127.0.0.1", str(scp.port)]
        assert subprocess.run(command, timeout=20).returncode == 0
        assert storescu(scp.port, [ct_file], *options(scanner)).returncode == 0


@pytest.mark.fault("peers", "a silent TLS client", "dropped after `request_seconds`")
def test_a_silent_tls_client_is_dropped_in_time(start: Start, ours: Tls) -> None:
    scp = start(ours, request_seconds=0.3)
    with socket.create_connection(("127.0.0.1", scp.port), timeout=20) as silent:
        assert silent.recv(1) == b""


@pytest.mark.fault(
    "peers",
    "the node's certificate expired, and its files are renewed",
    "the next connection succeeds without a restart",
)
def test_a_renewed_certificate_is_used_without_a_restart(
    start: Start, scanner: Tls, ct_file: Path, tmp_path: Path
) -> None:
    own = Authority(tmp_path, "own")
    tls = replace(own.issue("renewed", days=-1), ca=scanner.ca)
    scp = start(tls)
    credentials = options(replace(scanner, ca=own.file))
    assert storescu(scp.port, [ct_file], *credentials).returncode != 0
    own.issue("renewed")
    assert storescu(scp.port, [ct_file], *credentials).returncode == 0


@pytest.mark.fault("peers", "the renewed key is broken", "the certificate before stays in use, and the log says so")
def test_broken_new_files_leave_the_certificate_before(
    start: Start, scanner: Tls, ct_file: Path, tmp_path: Path
) -> None:
    own = Authority(tmp_path, "own")
    tls = replace(own.issue("renewed"), ca=scanner.ca)
    scp = start(tls)
    tls.key.write_text("half a key")
    with structlog.testing.capture_logs() as logs:
        assert storescu(scp.port, [ct_file], *options(replace(scanner, ca=own.file))).returncode == 0
    assert "certificate.not_renewed" in [line["event"] for line in logs]


def test_we_call_a_peer_over_tls(archive: Callable[..., Peer], authority: Authority, ours: Tls) -> None:
    peer = archive(authority.issue("archive"))
    assert 0 < echo(replace(peer, tls=ours), "ISCL_NODE") < 10


@pytest.mark.fault("delivery", "the destination's certificate is of another authority", "not called; tried again later")
def test_a_peer_of_another_authority_is_not_called(
    archive: Callable[..., Peer], scanner: Tls, ours: Tls, tmp_path: Path
) -> None:
    peer = archive(replace(Authority(tmp_path, "elsewhere").issue("archive"), ca=ours.ca))
    with pytest.raises(RetryLaterError, match=r"peer archive.*TLS handshake failed \(.*certificate"):
        echo(replace(peer, tls=ours), "ISCL_NODE")


@pytest.mark.fault(
    "delivery",
    "the destination's certificate has another name",
    "not called, unless the settings say so; tried again later",
)
def test_a_peer_with_another_name_is_not_called_unless_the_settings_say_so(
    archive: Callable[..., Peer], authority: Authority, ours: Tls
) -> None:
    peer = archive(authority.issue("nameless", names=None))
    with pytest.raises(RetryLaterError, match="TLS handshake failed"):
        echo(replace(peer, tls=ours), "ISCL_NODE")
    assert echo(replace(peer, tls=replace(ours, verify_name=False)), "ISCL_NODE") > 0


def test_the_name_of_a_peer_can_be_another_than_its_host(
    archive: Callable[..., Peer], authority: Authority, ours: Tls
) -> None:
    peer = archive(authority.issue("archive"))
    assert echo(replace(peer, tls=replace(ours, server_name="localhost")), "ISCL_NODE") > 0
    with pytest.raises(RetryLaterError, match="mismatch"):
        echo(replace(peer, tls=replace(ours, server_name="pacs.example")), "ISCL_NODE")


@pytest.mark.fault(
    "delivery", "the files of our certificate cannot be read", "tried again later; the message names the file"
)
def test_files_that_cannot_be_used_put_off_what_would_be_sent(ours: Tls, tmp_path: Path) -> None:
    peer = Peer("archive", "ARCHIVE", "127.0.0.1", 1, tls=replace(ours, key=tmp_path / "missing.key"))
    with pytest.raises(RetryLaterError, match=r"peer archive.*missing\.key cannot be read: No such file"):
        echo(peer, "ISCL_NODE")


def test_faults_of_files_are_named(authority: Authority, ours: Tls, scanner: Tls, tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for tls, message in (
        (replace(ours, certificate=tmp_path / "missing.pem"), r"certificate .*missing\.pem cannot be read"),
        (replace(ours, key=scanner.key), "cannot be used together: key values mismatch"),
        (replace(ours, ca=nonsense), r"ca .*nonsense\.pem cannot be used"),
        (replace(ours, certificate=nonsense), r"nonsense\.pem and key"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            days_left(tls, datetime.now(UTC))


def test_days_left_are_those_of_what_ends_first(authority: Authority) -> None:
    tls = authority.issue("short", days=20.5)
    assert days_left(tls, datetime.now(UTC)) == 20
    assert days_left(tls, datetime.now(UTC) + timedelta(days=21)) == -1
    assert expiry_timestamp(tls) == pytest.approx(time.time() + 20.5 * 86400, abs=60)
    assert expiry_timestamp(replace(tls, ca=Path("missing"))) == 0


def test_a_key_may_have_a_passphrase(authority: Authority, tmp_path: Path) -> None:
    tls = authority.issue("sealed", passphrase=b"open sesame")
    file = tmp_path / "passphrase"
    for text, told in ((None, r"\(none is set\)"), ("wrong\n", "passphrase"), ("", "passphrase")):
        given = tls if text is None else replace(tls, key_password_file=file)
        if text is not None:
            file.write_text(text)
        with pytest.raises(
            ConfigurationError, match=f"has a passphrase, which is not that of key_password_file .*{told}"
        ):
            days_left(given, datetime.now(UTC))
    file.write_text("open sesame\nanother line\n")
    assert days_left(replace(tls, key_password_file=file), datetime.now(UTC)) > 300
    with pytest.raises(ConfigurationError, match=r"key_password_file .*missing cannot be read: No such file"):
        days_left(replace(tls, key_password_file=tmp_path / "missing"), datetime.now(UTC))
