"""What is counted and logged of instances that are taken."""

import pytest
import structlog
from factories import ct_dataset, part10

from iscl_node.domain import ReceivedInstance, SeriesState
from iscl_node.metrics import Metrics
from iscl_node.pipeline.reception import reception
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
    (line,) = logs
    assert (line["event"], line["log_level"], line["calling_ae_title"]) == ("instance.conflict", "warning", "SCANNER")
    assert "another'" not in str(line)
    assert spool.counts()[SeriesState.QUARANTINE] == 1
