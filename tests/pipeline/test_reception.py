"""What is counted and logged of instances that are taken."""

import time
from datetime import UTC, datetime

import numpy as np
import pytest
import structlog
from factories import ct_dataset, ct_series, file_meta_of, part10, soft_tissue
from pydicom.dataset import FileDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from iscl_node.domain import ReceivedInstance, SeriesState
from iscl_node.metrics import Metrics
from iscl_node.pipeline.reception.receive import reception
from iscl_node.store.spool import Spool


def arrivals(metrics: Metrics, arrival: str) -> float:
    return metrics.registry.get_sample_value("iscl_node_arrivals_total", {"arrival": arrival}) or 0.0


def test_counters_begin_with_zero_so_that_an_alert_sees_the_first(spool: Spool, metrics: Metrics) -> None:
    reception(spool, metrics)
    for each in ("new", "repeated", "conflict"):
        assert metrics.registry.get_sample_value("iscl_node_arrivals_total", {"arrival": each}) == 0


@pytest.mark.fault(
    "reception", "another image under a known UID", "counted and logged as a conflict, and kept in quarantine"
)
def test_new_repeated_and_conflicting_instances_are_told_apart(spool: Spool, metrics: Metrics) -> None:
    receive = reception(spool, metrics)
    first, other = part10(ct_dataset()), part10(ct_dataset(PatientID="another"))
    with structlog.testing.capture_logs() as logs:
        for data in (first, first, other):
            receive(ReceivedInstance(data, "SCANNER", "127.0.0.1"))
    assert [arrivals(metrics, each) for each in ("new", "repeated", "conflict")] == [1, 1, 1]
    told = [(each["event"], each["log_level"], each["calling_ae_title"]) for each in logs[:2]]
    assert told == [("series.opened", "info", "SCANNER"), ("series.repeated", "info", "SCANNER")]
    (line,) = logs[2:]
    assert (line["event"], line["log_level"]) == ("instance.conflict_found", "warning")
    assert line["calling_ae_title"] == "SCANNER"
    assert "another'" not in str(line)
    assert spool.counts()[SeriesState.QUARANTINE] == 1


@pytest.mark.fault(
    "reception",
    "the same image again in another transfer syntax",
    "a repetition: equal attributes and equal decoded pixels are no conflict",
)
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_the_same_image_in_another_encoding_is_a_repetition(spool: Spool, metrics: Metrics, syntax: UID) -> None:
    receive = reception(spool, metrics)
    receive(received(part10(ct_dataset())))
    receive(received(reencoded(ct_dataset(), syntax)))
    assert [arrivals(metrics, each) for each in ("new", "repeated", "conflict")] == [1, 1, 0]
    assert spool.quarantined() == []


@pytest.mark.fault(
    "reception",
    "the instances of a series come again with another patient, for example after a merge",
    "one quarantine entry for the series, naming the attributes that differ",
)
def test_conflicts_of_a_series_are_one_entry_that_names_the_attributes(spool: Spool, metrics: Metrics) -> None:
    receive = reception(spool, metrics)
    for each in ct_series(3):
        receive(received(part10(each)))
    for each in ct_series(3, PatientID="P2", PatientName="Right^One"):
        receive(received(part10(each)))
    (entry,) = spool.quarantined()
    assert entry.reason.endswith("they differ in Patient's Name and Patient ID.")
    assert len(list(entry.folder.glob("*.dcm"))) == 3


@pytest.mark.fault(
    "reception",
    "other pixels come under the SOP Instance UIDs of a series that was closed, or delivered",
    "what was closed stays; one quarantine entry for the series, which names the pixels",
)
@pytest.mark.parametrize("is_delivered", [False, True])
def test_other_pixels_after_the_series_was_closed_are_one_entry(
    spool: Spool, metrics: Metrics, is_delivered: bool
) -> None:
    receive = reception(spool, metrics)
    for each in ct_series(3):
        receive(received(part10(each)))
    batch = spool.close(str(each.SeriesInstanceUID), datetime.now(UTC))
    if is_delivered:
        spool.mark_sent(batch)
        spool.release(batch)
    before = [path.read_bytes() for path in spool.instances(batch)]
    for each in ct_series(3, pixels=soft_tissue(seed=9)):
        receive(received(part10(each)))
    (entry,) = spool.quarantined()
    assert "Pixel Data" in entry.reason
    assert len(list(entry.folder.glob("*.dcm"))) == 3
    assert [path.read_bytes() for path in spool.instances(batch)] == before
    assert spool.quiet_series(time.time() + 3600, 0) == []


def received(content: bytes) -> ReceivedInstance:
    return ReceivedInstance(content, "SCANNER", "127.0.0.1")


def reencoded(dataset: FileDataset, syntax: UID) -> bytes:
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
        return part10(dataset)
    dataset.file_meta = file_meta_of(dataset, syntax)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
    return part10(dataset)


def test_the_log_tells_once_that_a_series_arrives_and_again_after_a_while(
    spool: Spool, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = reception(spool, metrics)
    now = 0.0
    monkeypatch.setattr("iscl_node.pipeline.reception.receive.time.monotonic", lambda: now)
    with structlog.testing.capture_logs() as logs:
        for dataset in ct_series(3):
            for _ in range(2):
                receive(ReceivedInstance(part10(dataset), "SCANNER", "127.0.0.1"))
        receive(ReceivedInstance(part10(dataset), "ROUTER", "127.0.0.1"))
        now = 60.0
        receive(ReceivedInstance(part10(dataset), "SCANNER", "127.0.0.1"))
    assert [(each["event"], each["calling_ae_title"]) for each in logs] == [
        ("series.opened", "SCANNER"),
        ("series.repeated", "SCANNER"),
        ("series.repeated", "ROUTER"),
        ("series.repeated", "SCANNER"),
    ]
