"""The Storage SCP over real sockets: DCMTK and pynetdicom send to it, some of them wrongly."""

import io
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pydicom
import pytest
import structlog
from pydicom.uid import MRImageStorage
from pynetdicom import AE
from pynetdicom.presentation import build_context
from scripted_peers import dcmtk, storescu, wait_until

from iscl_node.domain import CT_IMAGE_STORAGE, CT_STORAGE, MULTIFRAME_CT_STORAGE, Peer, ReceivedInstance
from iscl_node.errors import ConfigurationError, RejectInstanceError
from iscl_node.metrics import Metrics
from iscl_node.network.scp.storage_scp import DEFLATED, StorageScp

SCANNER = Peer("scanner", "SCANNER", "127.0.0.1", 104)
EXPLICIT = "1.2.840.10008.1.2.1"

Start = Callable[..., StorageScp]


class Receiver:
    """Keeps what arrives; fails as told, instance by instance."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.instances: list[ReceivedInstance] = []

    def __call__(self, instance: ReceivedInstance) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.instances.append(instance)


@pytest.fixture
def start(metrics: Metrics) -> Iterator[Start]:
    with ExitStack() as stack:

        def start_scp(
            receive: Callable[[ReceivedInstance], None], *, peers: tuple[Peer, ...] = (SCANNER,), unknown: bool = False
        ) -> StorageScp:
            scp = StorageScp(
                ae_title="ISCL_NODE",
                host="127.0.0.1",
                port=0,
                peers=peers,
                accept_unknown_peers=unknown,
                receive=receive,
                metrics=metrics,
            )
            scp.start()
            stack.callback(scp.stop)
            return scp

        yield start_scp


def associate(scp: StorageScp, calling: str = "SCANNER", called: str = "ISCL_NODE", sop_class: str = CT_IMAGE_STORAGE):
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    return entity.associate("127.0.0.1", scp.port, contexts=[build_context(sop_class, EXPLICIT)], ae_title=called)


def received(metrics: Metrics, status: str, calling: str = "SCANNER") -> float:
    labels = {"calling_ae_title": calling, "status": status}
    return metrics.registry.get_sample_value("iscl_node_received_instances_total", labels) or 0.0


def test_dcmtk_sends_and_every_element_arrives_as_it_was(start: Start, ct_file: Path, metrics: Metrics) -> None:
    receiver = Receiver()
    scp = start(receiver)
    done = storescu(scp.port, [ct_file])
    assert done.returncode == 0, done.stderr
    (instance,) = receiver.instances
    arrived, source = pydicom.dcmread(io.BytesIO(instance.part10)), pydicom.dcmread(ct_file)
    del source["DataSetTrailingPadding"]  # DCMTK does not send it
    assert arrived.to_json() == source.to_json()
    assert arrived.PixelData == source.PixelData
    assert arrived.file_meta.SourceApplicationEntityTitle == "SCANNER"
    assert arrived.file_meta.MediaStorageSOPInstanceUID == source.SOPInstanceUID
    assert (instance.calling_ae_title, instance.calling_address) == ("SCANNER", "127.0.0.1")
    assert received(metrics, "0000") == 1
    assert metrics.registry.get_sample_value("iscl_node_received_bytes_total") == len(instance.part10)
    assert metrics.registry.get_sample_value("iscl_node_last_received_timestamp_seconds") > 0


def test_the_data_set_is_kept_byte_for_byte(start: Start, ct_file: Path) -> None:
    receiver = Receiver()
    association = associate(start(receiver))
    association.send_c_store(ct_file)
    association.release()
    encoded = ct_file.read_bytes()
    group_length = int.from_bytes(encoded[140:144], "little")
    assert receiver.instances[0].part10.endswith(encoded[144 + group_length :])


@pytest.mark.parametrize("option", ["-xi", "-xe", "-xb", "-xd"])
def test_dcmtk_sends_in_every_uncompressed_transfer_syntax(start: Start, ct_file: Path, option: str) -> None:
    receiver = Receiver()
    done = storescu(start(receiver).port, [ct_file], option)
    assert done.returncode == 0, done.stderr
    arrived = pydicom.dcmread(io.BytesIO(receiver.instances[0].part10))
    assert (arrived.pixel_array == pydicom.dcmread(ct_file).pixel_array).all()


@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2.5",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.81",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.4.91",
    ],
)
def test_compressed_transfer_syntaxes_are_accepted(start: Start, syntax: str) -> None:
    association = AE("SCANNER").associate(
        "127.0.0.1", start(Receiver()).port, contexts=[build_context(CT_IMAGE_STORAGE, syntax)], ae_title="ISCL_NODE"
    )
    assert [context.transfer_syntax for context in association.accepted_contexts] == [[syntax]]
    association.release()


def test_echoscu_is_answered(start: Start) -> None:
    port = start(Receiver()).port
    command = [dcmtk("echoscu"), "-aet", "SCANNER", "-aec", "ISCL_NODE", "127.0.0.1", str(port)]
    assert subprocess.run(command, timeout=60).returncode == 0


@pytest.mark.parametrize("sop_class", CT_STORAGE)
def test_every_ct_storage_class_is_accepted(start: Start, sop_class: str) -> None:
    association = associate(start(Receiver()), sop_class=sop_class)
    assert [context.abstract_syntax for context in association.accepted_contexts] == [sop_class]
    association.release()


def test_multiframe_is_refused_as_deflated_only(start: Start) -> None:
    contexts = [build_context(each, syntax) for each in CT_STORAGE for syntax in (DEFLATED, EXPLICIT)]
    association = AE("SCANNER").associate("127.0.0.1", start(Receiver()).port, contexts, "ISCL_NODE")
    refused = {(each.abstract_syntax, each.transfer_syntax[0]) for each in association.rejected_contexts}
    assert refused == {(sop_class, DEFLATED) for sop_class in MULTIFRAME_CT_STORAGE}
    association.release()


def test_mr_image_storage_is_refused(start: Start) -> None:
    association = associate(start(Receiver()), sop_class=MRImageStorage)
    assert association.accepted_contexts == []
    assert len(association.rejected_contexts) == 1


@pytest.mark.parametrize("peers", [(), (SCANNER,), (Peer("x", "STRANGER", "127.0.0.1", 104, may_store=False),)])
@pytest.mark.fault(
    "peers", "a calling AE title that may not store", "rejected; the log line has the setting that would let it in"
)
def test_a_stranger_is_rejected_and_the_log_says_what_to_add(start: Start, peers: tuple[Peer, ...]) -> None:
    scp = start(Receiver(), peers=peers)
    with structlog.testing.capture_logs() as logs:
        association = associate(scp, calling="STRANGER")
    assert association.is_rejected
    assert association.acceptor.primitive.result_source == 1
    assert association.acceptor.primitive.diagnostic == 3
    (line,) = [line for line in logs if line["event"] == "association.rejected"]
    assert (line["calling_ae_title"], line["host"]) == ("STRANGER", "127.0.0.1")
    assert "[[peers]]" in line["setting_that_accepts"]
    assert 'ae_title = "STRANGER"' in line["setting_that_accepts"]


def test_storescu_tells_a_stranger_why(start: Start, ct_file: Path) -> None:
    done = storescu(start(Receiver()).port, [ct_file], calling="STRANGER")
    assert done.returncode != 0
    assert "Calling AE Title Not Recognized" in done.stderr


def test_a_stranger_is_taken_where_the_settings_say_so(start: Start, ct_file: Path, metrics: Metrics) -> None:
    scp = start(Receiver(), peers=(), unknown=True)
    association = associate(scp, calling="STRANGER")
    assert association.send_c_store(ct_file).Status == 0x0000
    association.release()
    assert received(metrics, "0000", calling="unknown") == 1


@pytest.mark.fault("peers", "a called AE title that is not the node's", "rejected as not recognized")
def test_an_association_for_somebody_else_is_rejected(start: Start) -> None:
    association = associate(start(Receiver()), called="OTHER")
    assert association.is_rejected
    assert association.acceptor.primitive.diagnostic == 7


@pytest.mark.fault(
    "reception",
    "an instance that cannot be taken",
    "its sender hears status and reason; the next instance on the association is stored",
)
def test_a_rejected_instance_gets_its_status_and_the_reason(start: Start, ct_file: Path, metrics: Metrics) -> None:
    reason = "the series is full — " + "x" * 80
    scp = start(Receiver(RejectInstanceError(0xA700, reason)))
    association = associate(scp)
    response = association.send_c_store(ct_file)
    assert response.Status == 0xA700
    assert response.ErrorComment == ("the series is full ? " + "x" * 80)[:64]
    assert association.send_c_store(ct_file).Status == 0x0000
    association.release()
    assert received(metrics, "A700") == 1
    assert received(metrics, "0000") == 1


@pytest.mark.fault(
    "reception", "a bug in the reception", "0x0110 without details; the next instance on the association is stored"
)
def test_an_unexpected_error_fails_the_instance_and_the_node_lives(
    start: Start, ct_file: Path, metrics: Metrics
) -> None:
    receiver = Receiver(ZeroDivisionError("a bug"))
    scp = start(receiver)
    with structlog.testing.capture_logs() as logs:
        association = associate(scp)
        response = association.send_c_store(ct_file)
    assert response.Status == 0x0110
    assert "bug" not in response.ErrorComment
    assert [line["event"] for line in logs if line.get("exc_info")] == ["instance.failed"]
    assert association.send_c_store(ct_file).Status == 0x0000
    association.release()
    assert received(metrics, "0110") == 1
    assert len(receiver.instances) == 1


@pytest.mark.fault("reception", "an instance takes long to be safe", "no success before it is")
def test_success_is_answered_only_after_the_instance_is_safe(start: Start, ct_file: Path) -> None:
    entered, safe = threading.Event(), threading.Event()

    def receive(instance: ReceivedInstance) -> None:
        entered.set()
        assert safe.wait(20)

    association = associate(start(receive))
    answers: list[int] = []
    sender = threading.Thread(target=lambda: answers.append(association.send_c_store(ct_file).Status))
    sender.start()
    assert entered.wait(20)
    assert answers == []
    safe.set()
    sender.join(20)
    assert answers == [0x0000]
    association.release()


@pytest.mark.fault(
    "machine",
    "the node is stopped while an instance is stored",
    "that instance is answered, no further connection is taken",
)
def test_stop_answers_the_instance_in_hand_and_takes_no_more(start: Start, ct_file: Path) -> None:
    entered, safe = threading.Event(), threading.Event()

    def receive(instance: ReceivedInstance) -> None:
        entered.set()
        assert safe.wait(20)

    scp = start(receive)
    association = associate(scp)
    answers: list[int] = []
    sender = threading.Thread(target=lambda: answers.append(association.send_c_store(ct_file).Status))
    sender.start()
    assert entered.wait(20)
    port = scp.port
    stopper = threading.Thread(target=scp.stop)
    stopper.start()
    wait_until(lambda: not listens(port))
    assert stopper.is_alive()
    safe.set()
    sender.join(20)
    stopper.join(20)
    assert answers == [0x0000]
    assert not stopper.is_alive()
    wait_until(lambda: not association.is_established)


@pytest.mark.fault("machine", "an instance arrives while the node stops", "0xA700")
def test_while_stopping_another_association_is_refused_as_out_of_resources(start: Start, ct_file: Path) -> None:
    entered, safe = threading.Event(), threading.Event()

    def receive(instance: ReceivedInstance) -> None:
        entered.set()
        assert safe.wait(20)

    scp = start(receive)
    first, second = associate(scp), associate(scp)
    sender = threading.Thread(target=first.send_c_store, args=(ct_file,))
    sender.start()
    assert entered.wait(20)
    port = scp.port
    stopper = threading.Thread(target=scp.stop)
    stopper.start()
    wait_until(lambda: not listens(port))
    response = second.send_c_store(ct_file)
    safe.set()
    sender.join(20)
    stopper.join(20)
    assert (response.Status, response.ErrorComment) == (0xA700, "the node is stopping")


@pytest.mark.fault(
    "machine",
    "an instance that is being received takes too long while the node stops",
    "the node stops, and logs that requests are unanswered",
)
def test_stop_gives_up_on_an_instance_that_takes_too_long(start: Start, ct_file: Path) -> None:
    entered, safe = threading.Event(), threading.Event()

    def receive(instance: ReceivedInstance) -> None:
        entered.set()
        safe.wait(20)

    scp = start(receive)
    association = associate(scp)
    sender = threading.Thread(target=association.send_c_store, args=(ct_file,))
    sender.start()
    assert entered.wait(20)
    with structlog.testing.capture_logs() as logs:
        scp.stop(timeout_seconds=0.1)
    safe.set()
    sender.join(20)
    assert "requests.left_unanswered" in [line["event"] for line in logs]


@pytest.mark.fault("machine", "a silent connection while the node stops", "dropped; the node stops")
def test_stop_does_not_wait_for_a_connection_that_says_nothing(start: Start) -> None:
    scp = start(Receiver())
    with socket.create_connection(("127.0.0.1", scp.port)) as silent:
        wait_until(lambda: any("process_request" in thread.name for thread in threading.enumerate()))
        stopper = threading.Thread(target=scp.stop)
        stopper.start()
        stopper.join(10)
        assert not stopper.is_alive()
        assert silent.recv(1) == b""


def test_stop_twice_and_stop_before_start_are_fine(start: Start, metrics: Metrics) -> None:
    scp = start(Receiver())
    scp.stop()
    scp.stop()
    StorageScp(
        ae_title="X", host="", port=0, peers=[], accept_unknown_peers=True, receive=Receiver(), metrics=metrics
    ).stop()


@pytest.mark.fault("machine", "a port is taken at the start", "an error that names address and setting")
def test_a_port_in_use_is_a_configuration_error(start: Start, metrics: Metrics) -> None:
    taken = start(Receiver()).port
    scp = StorageScp(
        ae_title="ISCL_NODE",
        host="127.0.0.1",
        port=taken,
        peers=[],
        accept_unknown_peers=True,
        receive=Receiver(),
        metrics=metrics,
    )
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{taken}.*in use.*scp\.port"):
        scp.start()


@pytest.mark.fault("peers", "an association request that announces 4 GiB", "the connection is dropped")
def test_an_announced_pdu_of_4_gib_ends_the_connection(start: Start) -> None:
    scp = start(Receiver())
    with socket.create_connection(("127.0.0.1", scp.port), timeout=20) as liar:
        liar.sendall(struct.pack(">BBL", 1, 0, 0xFFFF_FFFF))
        assert liar.recv(1) == b""


@pytest.mark.fault("peers", "a sender vanishes in the middle of its association request", "the next sender is served")
def test_a_sender_that_vanishes_in_the_middle_harms_nobody(start: Start, ct_file: Path) -> None:
    receiver = Receiver()
    scp = start(receiver)
    with socket.create_connection(("127.0.0.1", scp.port)) as vanishing:
        vanishing.sendall(b"\x01\x00\x00\x00\x01\x00half an A-ASSOCIATE-RQ")
    association = associate(scp)
    assert association.send_c_store(ct_file).Status == 0x0000
    association.release()
    assert len(receiver.instances) == 1


@pytest.mark.fault(
    "reception",
    "a sender vanishes in the middle of an instance",
    "what was acknowledged is kept, the half instance is not; the next sender is served",
)
def test_of_a_sender_that_vanishes_in_an_instance_the_acknowledged_ones_are_kept(start: Start, ct_file: Path) -> None:
    receiver = Receiver()
    scp = start(receiver)
    vanishing = associate(scp)
    assert vanishing.send_c_store(ct_file).Status == 0x0000
    connection = vanishing.dul.socket.socket
    connection.sendall(struct.pack(">BxL", 4, 4096) + b"half of the next instance")
    connection.shutdown(socket.SHUT_RDWR)
    association = associate(scp)
    assert association.send_c_store(ct_file).Status == 0x0000
    association.release()
    assert len(receiver.instances) == 2


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
