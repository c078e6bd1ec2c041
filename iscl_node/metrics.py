"""Every metric of the node: name, labels and unit.

Labels never carry patient data or UIDs: AE titles, status codes, step names, and names of peers and rules only.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from iscl_node.domain.strength import ChosenStrength

_STRENGTH_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
_NOISE_BUCKETS_HU = (2, 4, 6, 8, 10, 12, 14, 17, 20, 25, 30, 40, 50, 70, 100, 150)
_DOSE_BUCKETS_MGY = (1, 2, 3, 5, 7.5, 10, 15, 20, 30, 40, 50, 60, 80, 100)
_DIAMETER_BUCKETS_MM = (100, 140, 160, 180, 200, 240, 280, 320, 360, 400, 450)
_EXAM_HISTOGRAMS = (
    ("noise_hu", "Global noise level of source series, HU", _NOISE_BUCKETS_HU),
    ("ctdivol_mgy", "CTDIvol of source series, mGy", _DOSE_BUCKETS_MGY),
    ("diameter_mm", "Water-equivalent diameter of the body, mm", _DIAMETER_BUCKETS_MM),
    ("size_specific_dose_mgy", "CTDIvol for the body's size, mGy", _DOSE_BUCKETS_MGY),
)
_DRIFT_BUCKETS_HU = (-4, -2, -1, -0.5, -0.2, 0, 0.2, 0.5, 1, 2, 4)
_MOST_SCANNERS = 100
_STEP_SECONDS_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)


class Metrics:
    """The node's metrics on a registry that is passed in, so that a test reads its own.

    Parameters
    ----------
    registry : CollectorRegistry
        Where the metrics are registered and read from.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._register_reception(counter, gauge)
        self._register_delivery(counter, gauge)
        self.batches = counter("iscl_node_batches_total", "Closed batches that reached an end, by outcome", ["outcome"])
        self.step_seconds = Histogram(
            "iscl_node_step_seconds",
            "Time of one workflow step",
            ["step"],
            buckets=_STEP_SECONDS_BUCKETS,
            registry=registry,
        )
        self.retries = counter("iscl_node_retries_total", "Steps put off and tried again, by step", ["step"])
        self._register_denoising(partial(Histogram, registry=registry), counter)
        self._register_exams(partial(Histogram, registry=registry))
        self.noisier_protocols = gauge(
            "iscl_node_noisier_protocols",
            "Protocols of a scanner whose noise of the last 7 days is above that of the 28 days before; see the page",
        )
        self._register_spool(counter, gauge)
        self._register_audit(counter, gauge)
        self.log_lines_lost = counter(
            "iscl_node_log_lines_lost_total", "Lines of the log that standard error did not take"
        )
        self.certificate_expiry = gauge(
            "iscl_node_certificate_expiry_timestamp_seconds",
            "When a TLS certificate ends, by use; 0 if it cannot be read",
            ["use"],
        )
        self.model_info = gauge("iscl_node_model_info", "1; the model in use", ["name", "version", "digest"])

        self.worker_info = gauge("iscl_node_worker_info", "1; the name and role of this worker", ["worker", "role"])
        self.leads = gauge("iscl_node_leads", "1 for the worker that does what only one of a spool's may do")
        self.taken_over_workflows = counter(
            "iscl_node_taken_over_workflows_total", "Workflows of dead workers that this one had go on"
        )

    def show_worker(self, name: str, role: str, leads: Callable[[], bool]) -> None:
        """Show who this is, and whether it leads."""
        self.worker_info.labels(name, role).set(1)
        self.leads.set_function(lambda: float(leads()))

    def _register_delivery(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self.sent_instances = counter(
            "iscl_node_sent_instances_total",
            "Derived instances offered to a destination, by peer and status (hexadecimal)",
            ["peer", "status"],
        )
        self.confirmations = counter(
            "iscl_node_confirmations_total",
            "Answers of destinations whether they keep a batch, by peer, way (commitment or query) and outcome",
            ["peer", "way", "outcome"],
        )
        self.destination_up = gauge(
            "iscl_node_destination_up",
            "1 if a destination took, or answered, what it was asked last; 0 if it is to be tried again, by peer",
            ["peer"],
        )
        self.destination_retries = counter(
            "iscl_node_destination_retries_total",
            "Sendings and questions that are to be tried again, by peer",
            ["peer"],
        )
        self.resent_instances = counter(
            "iscl_node_resent_instances_total",
            "Derived instances that a destination stored and did not have later, so that they are sent again, by peer",
            ["peer"],
        )
        self.stopped_deliveries = gauge(
            "iscl_node_stopped_deliveries",
            "Batches that a destination took again and again and shows nothing of, by peer; not sent to it any more",
            ["peer"],
        )

    def _register_reception(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self.received_instances = counter(
            "iscl_node_received_instances_total",
            "C-STORE requests answered, by calling AE title and status (hexadecimal)",
            ["calling_ae_title", "status"],
        )
        self.refused_connections = counter(
            "iscl_node_refused_connections_total", "Connections and associations not taken, by reason", ["reason"]
        )
        self.arrivals = counter(
            "iscl_node_arrivals_total", "Instances accepted, by what they are: new, repeated or conflict", ["arrival"]
        )
        self.received_bytes = counter("iscl_node_received_bytes_total", "Bytes of the instances accepted")
        self.last_received_timestamp_seconds = gauge(
            "iscl_node_last_received_timestamp_seconds", "When the last instance was accepted"
        )

    def _register_denoising(self, histogram: Callable[..., Histogram], counter: Callable[..., Counter]) -> None:
        self.strength = histogram(
            "iscl_node_series_strength",
            "Strength of derived series, by rule: the share of the noise that was to be removed",
            ["rule"],
            buckets=_STRENGTH_BUCKETS,
        )
        self.source_noise = histogram(
            "iscl_node_source_noise_hu", "Noise of source series, by rule", ["rule"], buckets=_NOISE_BUCKETS_HU
        )
        self.unsuited = counter(
            "iscl_node_unsuited_series_total",
            "Series that the model was not made for, by rule and by what it was not made for",
            ["rule", "caution"],
        )
        self.derived_noise = histogram(
            "iscl_node_derived_noise_hu", "Noise of derived series, by rule", ["rule"], buckets=_NOISE_BUCKETS_HU
        )

        self.drift = histogram(
            "iscl_node_drift_hu",
            "How far the mean of soft tissue moved in derived series, by rule",
            ["rule"],
            buckets=_DRIFT_BUCKETS_HU,
        )

    def observe_strengths(self, rule: str, strengths: Sequence[ChosenStrength]) -> None:
        """Count the strengths that were chosen for a series, and its noise, where it was measured."""
        for each in strengths:
            self.strength.labels(rule).observe(each.value)
        for caution in strengths[0].cautions if strengths else ():
            self.unsuited.labels(rule, caution).inc()
        if strengths and strengths[0].source_noise_hu is not None:
            self.source_noise.labels(rule).observe(strengths[0].source_noise_hu)

    def observe_derived(self, rule: str, noise_hu: float | None, drift_hu: float | None) -> None:
        """Count the noise of a derived series and the drift of its soft tissue, HU; None where not measured."""
        if noise_hu is not None:
            self.derived_noise.labels(rule).observe(noise_hu)
        if drift_hu is not None:
            self.drift.labels(rule).observe(drift_hu)

    def _register_exams(self, histogram: Callable[..., Histogram]) -> None:
        labels = ["scanner", "body_part"]
        self._scanners: set[tuple[str, str]] = set()
        self.exams: Mapping[str, Histogram] = {
            name: histogram(
                f"iscl_node_exam_{name}", f"{text}, by manufacturer and model, and body part", labels, buckets=b
            )
            for name, text, b in _EXAM_HISTOGRAMS
        }

    def observe_exam(self, scanner: str, body_part: str, values: Mapping[str, float | None]) -> None:
        """Count noise and dose of a series; beyond a number of scanners and body parts, as those of others."""
        labels = scanner, body_part
        if labels not in self._scanners and len(self._scanners) >= _MOST_SCANNERS:
            labels = "others", ""
        self._scanners.add(labels)
        for name, histogram in self.exams.items():
            value = values.get(name)
            if value is not None:
                histogram.labels(*labels).observe(value)

    def _register_spool(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self.waiting_instances = gauge(
            "iscl_node_waiting_instances", "Received instances in series that are open or not sent to everybody yet"
        )
        self.quarantine_batches = gauge(
            "iscl_node_quarantine_batches", "Batches in quarantine, by what their reason is about", ["reason"]
        )
        self.spool_batches = gauge("iscl_node_spool_batches", "Batches in the spool, by state", ["state"])
        self.series_closed = counter(
            "iscl_node_series_closed_total",
            "Series closed, by the reason: geometry, list (both complete), timeout (incomplete) or quiet",
            ["completeness"],
        )
        self.incomplete_series = gauge(
            "iscl_node_incomplete_series",
            "Quiet series that are incomplete: waiting for the time-out, or held behind it until a person decides",
            ["state"],
        )
        self.spool_bytes = gauge("iscl_node_spool_bytes", "Bytes in the spool, by folder, once a minute", ["folder"])
        self.oldest_waiting_seconds = gauge(
            "iscl_node_oldest_waiting_seconds", "Age of the oldest batch not yet delivered"
        )
        self.uncommitted_oldest_seconds = gauge(
            "iscl_node_uncommitted_oldest_seconds",
            "How long the oldest batch that every destination stored has been waiting to be confirmed; 0 if none does",
        )
        self.quarantine_oldest_seconds = gauge(
            "iscl_node_quarantine_oldest_seconds",
            "How long the oldest batch has been in quarantine; 0 if there is none",
        )
        self.spool_free_bytes = gauge("iscl_node_spool_free_bytes", "Free space of the spool's file system")
        self.purged_batches = counter(
            "iscl_node_purged_batches_total", "Batches deleted that need not be kept, by cause: age or space", ["cause"]
        )
        self.housekeeping_faults = counter(
            "iscl_node_housekeeping_faults_total", "Tasks of housekeeping that failed, by task", ["task"]
        )

    def _register_audit(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        self.audit_messages = counter("iscl_node_audit_messages_total", "DICOM audit messages, by event", ["event"])
        self.audit_unwritten = gauge(
            "iscl_node_audit_unwritten", "Audit messages in memory only, because the disk does not take them"
        )
        self.audit_lost = counter(
            "iscl_node_audit_lost_total",
            "Audit messages lost: too many wait for the disk, or a fault that is in the log",
        )
        self.audit_waiting_bytes = gauge(
            "iscl_node_audit_waiting_bytes", "Bytes of the audit messages that the syslog server does not have yet"
        )
        self.audit_oldest_waiting_seconds = gauge(
            "iscl_node_audit_oldest_waiting_seconds",
            "Age of the oldest audit message that the syslog server does not have yet",
        )
