"""Composition root: settings to objects to threads. Starts and stops, decides nothing."""

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import structlog
from prometheus_client import CollectorRegistry

from iscl_node import __version__, logs
from iscl_node.assembly.auditing import RunningTrail, append_all, messages_of
from iscl_node.assembly.calling import Calling
from iscl_node.assembly.denoisers import load_denoisers
from iscl_node.assembly.opening import log_key, opened_spool
from iscl_node.assembly.page import pages
from iscl_node.audit.messages import Messages
from iscl_node.audit.schema import AuditMessage
from iscl_node.denoise.allocator import freeze_heap
from iscl_node.denoise.bundle_denoiser import BundleDenoiser
from iscl_node.dicom.selecting.rules import check_rules
from iscl_node.domain import ModelIdentity, Rule
from iscl_node.errors import ConfigurationError, StartAgainError
from iscl_node.metrics import Metrics
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.network.scu.association import abort_all
from iscl_node.network.tls import expiry_timestamp
from iscl_node.pipeline.audit.what_happened import NO_AUDIT, Audit, AuditTrail
from iscl_node.pipeline.delivery.ask import Asking
from iscl_node.pipeline.delivery.conclude import Concluding
from iscl_node.pipeline.delivery.deadline import Deadline
from iscl_node.pipeline.delivery.destination import Destinations
from iscl_node.pipeline.delivery.send import Sending
from iscl_node.pipeline.engine.database_faults import DatabaseFaults
from iscl_node.pipeline.engine.ended import forget_ended
from iscl_node.pipeline.engine.fence import fence_of
from iscl_node.pipeline.engine.idle import IdleWorkflows
from iscl_node.pipeline.engine.launch import launch_engine, stop_engine
from iscl_node.pipeline.engine.leases import taken_lease
from iscl_node.pipeline.engine.takeover import takeover_of
from iscl_node.pipeline.engine.workers import Worker
from iscl_node.pipeline.housekeeping import Housekeeping
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.pipeline.page.decisions import Decisions
from iscl_node.pipeline.page.fleet import Fleet
from iscl_node.pipeline.reception.closing import SeriesCloser
from iscl_node.pipeline.reception.completeness import Completeness
from iscl_node.pipeline.reception.peer_lists import PeerListings
from iscl_node.pipeline.reception.receive import reception
from iscl_node.pipeline.steps.series import SeriesSteps
from iscl_node.pipeline.workflows.batch import QUEUES, SHARED_QUEUES, STEP_ORDER_VERSION, SeriesWorkflow
from iscl_node.pipeline.workflows.commitment_reports import CommitmentReports
from iscl_node.pipeline.workflows.reconcile import Reconcile
from iscl_node.pipeline.workflows.trying import Trying
from iscl_node.retry import Backoff
from iscl_node.settings import Settings
from iscl_node.store.batches.recovery import clear_receiving
from iscl_node.store.identity import settle_identity
from iscl_node.store.known_folders import KnownFolders
from iscl_node.store.leaving.retention import Retention, RetentionLimits
from iscl_node.store.receiving.open_series import OpenSeries
from iscl_node.store.records.deliveries import Deliveries
from iscl_node.store.records.running_time import RunningTime
from iscl_node.store.records.waits import Waits
from iscl_node.web.app import web_app
from iscl_node.web.limits import listening, raise_descriptor_limit, web_server

_log = structlog.get_logger(__name__)

_STALLED_SECONDS = 60
"""Housekeeping that has not ticked for this long makes the node not ready."""

_REPORT_SECONDS = 3
"""How long the report on a storage commitment is waited for on the association on which it was asked for."""

_MINUTE, _LONGEST_DAY = 60, 25 * 3600

_LAST_STEP_SECONDS = 75
"""How long a stopping node waits for the requests that run: less than the 90 s after which systemd kills it."""

_GO_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""A terminal is closed, or logs are rotated. There is nothing to read again: the log is standard error, certificates
are read when they change, settings at the start."""


class Node:
    """The running node.

    Parameters
    ----------
    settings : Settings
        What the user wants.
    memory : Path
        A file outside of the spool that keeps the spool's ID.

    Raises
    ------
    ConfigurationError
        If it cannot start like this.
    """

    def __init__(self, settings: Settings, memory: Path) -> None:
        rules = settings.known_rules()
        check_rules(rules)
        self._settings = settings
        self._is_working = settings.role != "receive"
        self._metrics = Metrics(CollectorRegistry())
        worker = Worker(settings.worker_name, settings.role, STEP_ORDER_VERSION)
        self._lease = taken_lease(settings.database_url, worker)
        expected = self._lease.spool_id()
        self._lease.belong_to(settle_identity(settings.spool_dir, memory, __version__, expected))
        self._spool, self._lock = opened_spool(settings)
        self._headers = KeptHeaders()
        self._worker = settings.worker_name if settings.has_postgresql else None  # None: all workflows are ours
        self._shutdown = fence_of(self._lease)
        self._trail: RunningTrail | None = None
        self._messages: Messages | None = None
        self._running_time = RunningTime(self._spool.root)
        self._peers = {peer.name: peer for peer in settings.known_peers()}
        self._reports = CommitmentReports(self._peers, lambda *late: self._workflow.conclude_late(*late))
        ours = settings.scp.ae_title
        self._calling = Calling(ours, self._reports, _REPORT_SECONDS, self._metrics, self._shutdown, self._headers)
        steps = self._steps(rules)
        audit = self._prepared_audit()
        reconcile = self._reconciled(steps, audit)
        self._housekeeping = self._made_housekeeping(self._closer(rules, reconcile), reconcile)
        self._scp = None if settings.role == "work" else self._made_scp(audit)
        self._show_certificates()
        self._fleet = Fleet(self._spool.root, categories={rule.name: rule.ct_category for rule in settings.rules})
        self._metrics.noisier_protocols.set_function(self._fleet.noisier)
        http = settings.http
        shown = pages(settings, self._spool.root, self._peers, self._fleet, self._decisions())
        app = web_app(self._metrics.registry, self._readiness, self._notes, shown)
        self._web = web_server(app, http.host, http.port)

    def _made_scp(self, audit: Audit) -> StorageScp:
        settings = self._settings
        return StorageScp(
            ae_title=settings.scp.ae_title,
            host=settings.scp.host,
            port=settings.scp.port,
            peers=[peer for peer in settings.known_peers() if peer.web is None],
            accept_unknown_peers=settings.scp.accept_unknown_peers,
            receive=reception(self._spool, self._metrics, audit, self._headers),
            metrics=self._metrics,
            limits=settings.scp.limits(),
            tls=settings.scp.known_tls(),
            refused=self._note_refusal,
            report=self._reports.keep,
        )

    def _reconciled(self, steps: SeriesSteps, audit: Audit) -> Reconcile:
        """The workflows, and what keeps them and the spool in agreement."""
        delivery = self._settings.delivery
        deliveries = Deliveries(self._spool.root)
        destinations = Destinations(self._spool, deliveries, self._peers)
        deadline = Deadline(deliveries, self._running_time.seconds, delivery.give_up_hours * 3600)
        backoff = Backoff(delivery.first_retry_seconds, delivery.last_retry_seconds)
        report_seconds = delivery.report_hours * 3600
        sending = Sending(destinations, self._calling.send, deadline)
        asking = Asking(destinations, self._calling.commit, self._calling.find, deadline, report_seconds, self._headers)
        concluding = Concluding(destinations, deadline, backoff, report_seconds, self._metrics)
        trying = Trying(self._shutdown, self._metrics, backoff, Waits(self._spool.root))
        self._workflow = SeriesWorkflow(steps, sending, asking, concluding, trying, self._metrics, audit)
        idle = IdleWorkflows(self._worker)
        longest_delay_seconds = max(report_seconds, delivery.last_retry_seconds, _LONGEST_DAY) + _MINUTE
        rest = idle, self._metrics, longest_delay_seconds, lambda: self._lease.leads
        return Reconcile(destinations, self._workflow, concluding, *rest)

    def _made_housekeeping(self, closer: SeriesCloser, reconcile: Reconcile) -> Housekeeping:
        spool, root = self._settings.spool, self._spool.root
        known = KnownFolders()
        limits = RetentionLimits(spool.retention_hours * 3600, spool.max_bytes, 2 * spool.min_free_bytes)
        return Housekeeping(
            self._spool,
            closer,
            self._metrics,
            Retention(root, limits, known),
            partial(forget_ended, limits.seconds, self._worker),
            partial(self._reconcile, reconcile),
            lambda: self._lease.leads,
            takeover_of(self._lease, partial(clear_receiving, root), self._metrics.taken_over_workflows.inc),
            known,
        )

    def _closer(self, rules: Sequence[Rule], reconcile: Reconcile) -> SeriesCloser:
        quiet_seconds = self._settings.scp.quiet_seconds
        listings = PeerListings(self._peers, self._calling.find, self._calling.move)
        open_series = OpenSeries(self._spool.root)
        completeness = Completeness(open_series, rules, quiet_seconds, listings, self._metrics, headers=self._headers)
        return SeriesCloser(self._spool, quiet_seconds, completeness, reconcile.begin, self._metrics)

    def _steps(self, rules: Sequence[Rule]) -> SeriesSteps:
        settings = self._settings
        denoisers = load_denoisers(settings) if self._is_working else {}
        self._models = [denoiser.model for denoiser in denoisers.values()]  # all are of one bundle
        self._metrics.show_worker(settings.worker_name, settings.role, lambda: self._lease.leads)
        self._show_models(denoisers)
        self._configure_log(denoisers)
        limits, site = settings.quality.limits(), settings.derived.site(settings.scp.ae_title)
        rest = limits, __version__, site, self._running_time.seconds, self._metrics, self._headers
        return SeriesSteps(self._spool, rules, denoisers, *rest)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then finish the running step.

        Raises
        ------
        ConfigurationError
            If a port cannot be listened on, or the workflow database cannot be used.
        StartAgainError
            If the workflow database is damaged while the node runs.
        """
        logs.tell_faults_of_threads()
        logs.guard_prints(self._log_output)
        raise_descriptor_limit()
        web_socket = listening(self._settings.http.host, self._settings.http.port)
        web_thread = threading.Thread(target=self._web.run, args=([web_socket],), name="web", daemon=True)
        signals: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT, *_GO_ON):
            signal.signal(number, lambda number, _: signals.put(number))
        faults = DatabaseFaults(self._shutdown)
        faults.listen()
        settings = self._settings
        self._recover()
        identity = settings.database_url, settings.worker_name, STEP_ORDER_VERSION
        queues = SHARED_QUEUES if settings.has_postgresql else QUEUES
        launch_engine(*identity, queues, is_working=self._is_working)
        for tell in (faults.tell_damage, self._lease.tell_loss):
            tell(partial(signals.put, signal.SIGTERM))
        if self._trail is not None:
            self._trail.start()
        self._housekeeping.start()
        try:
            if self._scp is not None:
                self._scp.start()
            web_thread.start()
            freeze_heap()
            time_zone = settings.derived.time_zone or "that of the machine"
            _log.info("node.started", version=__version__, role=settings.role, time_zone=time_zone)
            _wait_for_the_end(signals)
        finally:
            self._stop()
        if faults.is_damaged:
            raise StartAgainError("the workflow database is damaged; the next start sets it aside and makes a new one")
        if self._lease.is_lost:
            raise StartAgainError(f"another process has the worker_name {settings.worker_name!r}")

    def _recover(self) -> None:
        """Clear what a kill left; before the engine's threads run, which would keep a process that fails here alive."""
        try:
            self._spool.recover()
        except OSError as error:
            raise ConfigurationError(f"spool_dir {self._spool.root} cannot be used: {error.strerror}") from error

    def _stop(self) -> None:
        self._shutdown.request()  # first: closing the port may take seconds; no further instance is sent
        _log.info("node.stop_requested")
        if self._scp is not None:
            self._scp.stop()
        self._housekeeping.stop()
        stop_engine(_LAST_STEP_SECONDS)
        self._lease.stop()
        if self._trail is not None:
            self._trail.stop()
        abort_all()  # those on which a peer is asked what it has
        self._web.should_exit = True
        _log.info("node.stopped")

    def _prepared_audit(self) -> Audit:
        settings = self._settings
        plan = settings.audit_plan()
        if plan is None:
            return NO_AUDIT
        model = self._models[0] if self._models else ModelIdentity("", "", "")
        messages = messages_of(plan, settings.scp.ae_title, model, settings.digest())
        self._messages = messages
        self._trail = RunningTrail(plan, self._spool.root, messages, self._metrics)
        lost = self._metrics.audit_lost.inc
        return AuditTrail(self._spool, messages, self._trail.record, settings.known_peers(), lost, self._headers)

    def _decisions(self) -> Decisions:
        receiving = [name for name, peer in self._peers.items() if peer.may_receive]
        return Decisions(self._spool, self._record_decision, receiving, self._running_time.seconds)

    def _record_decision(self, told: Callable[[Messages], Sequence[AuditMessage]]) -> None:
        plan = self._settings.audit_plan()
        if plan is not None and self._messages is not None:
            append_all(plan, self._spool.root, told(self._messages))

    def _note_refusal(self, reason: str, host: str, calling: str) -> None:
        if self._trail is not None:
            self._trail.refused(reason, host, calling)

    def _reconcile(self, reconcile: Reconcile) -> None:
        if self._lease.leads:
            self._running_time.write_down()
            reconcile.reconcile()
        else:
            reconcile.resume_idle()

    def _show_models(self, denoisers: Mapping[str, BundleDenoiser]) -> None:
        for denoiser in denoisers.values():
            model = denoiser.model
            self._metrics.model_info.labels(model.name, model.version, model.digest).set(1)

    def _configure_log(self, denoisers: Mapping[str, BundleDenoiser]) -> None:
        """Every line names the model and the settings."""
        models = {denoiser.model.digest for denoiser in denoisers.values()}  # all are of one bundle
        facts = {"model": "".join(models), "settings": self._settings.digest()}
        short = {name: digest[: logs.SHORT_DIGEST_LENGTH] for name, digest in facts.items()}
        self._log_output = logs.configure(log_key(self._spool), short, self._metrics.log_lines_lost.inc)

    def _show_certificates(self) -> None:
        for use, tls in self._settings.tls_uses().items():
            self._metrics.certificate_expiry.labels(use).set_function(partial(expiry_timestamp, tls))

    def _readiness(self) -> Mapping[str, bool]:
        return {
            "spool_has_space": self._spool.free_bytes() >= self._settings.spool.min_free_bytes,
            "housekeeping_runs": time.monotonic() - self._housekeeping.last_tick < _STALLED_SECONDS,
            "not_stopping": not self._shutdown.requested,
        }

    def _notes(self) -> Mapping[str, bool]:
        return {"log_is_written": not self._log_output.is_losing}


def _wait_for_the_end(signals: "SimpleQueue[int]") -> None:
    while (number := signals.get()) in _GO_ON:
        _log.info("signal.received", signal=signal.Signals(number).name)
