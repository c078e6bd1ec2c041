"""The node: settings to parts, which start, run until a signal, and stop. Decides nothing."""

from pathlib import Path

import structlog

from iscl_node import __version__, logs
from iscl_node.assembly.denoisers import load_denoisers
from iscl_node.assembly.engine import Engine
from iscl_node.assembly.http import Http
from iscl_node.assembly.keeping_house import housekeeping
from iscl_node.assembly.node_audit import NodeAudit
from iscl_node.assembly.observing import observed
from iscl_node.assembly.opening import recover
from iscl_node.assembly.receiving import sender_commitments, storage_scp
from iscl_node.assembly.shared import shared_parts
from iscl_node.assembly.signals import Signals
from iscl_node.assembly.working import reconciled_workflows, series_steps
from iscl_node.denoise.allocator import freeze_heap
from iscl_node.network.scu.association import abort_all
from iscl_node.pipeline.reception.commitments import CommitmentThread
from iscl_node.settings import Settings

_log = structlog.get_logger(__name__)


class Node:
    """The running node; ``memory`` is a file outside of the spool that keeps the spool's ID.

    Raises
    ------
    ConfigurationError
        If it cannot start like this: also by `run`.
    """

    def __init__(self, settings: Settings, memory: Path) -> None:
        self._shared = shared = shared_parts(settings, memory)
        denoisers = {} if settings.role == "receive" else load_denoisers(settings)
        models = [denoiser.model for denoiser in denoisers.values()]
        self._log_output = observed(shared, models)
        self._audit = NodeAudit(shared, models)
        reconcile = reconciled_workflows(shared, series_steps(shared, denoisers), self._audit.of_series)
        self._housekeeping = housekeeping(shared, reconcile)
        commitments = sender_commitments(shared)
        self._commitments = CommitmentThread(commitments, shared.lease)
        self._scp = storage_scp(shared, self._audit, commitments)
        self._engine = Engine(shared)
        self._http = Http(shared, self._audit, self._housekeeping, self._log_output)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then finish the instances that are being processed.

        Raises
        ------
        StartAgainError
            If the workflow database is damaged while the node runs, or another process has its name.
        """
        logs.tell_faults_of_threads()
        logs.guard_prints(self._log_output)
        self._http.listen()
        signals = Signals()
        recover(self._shared.spool)  # before the engine's threads run, which would keep a process that fails alive
        self._engine.start(stop=signals.end)
        self._audit.start()
        self._housekeeping.start()
        try:
            if self._scp is not None:
                self._scp.start()
            self._commitments.start()
            self._http.start()
            freeze_heap()
            settings = self._shared.settings
            time_zone = settings.derived.time_zone or "that of the machine"
            _log.info("node.started", version=__version__, role=settings.role, time_zone=time_zone)
            signals.wait_for_the_end()
        finally:
            self._stop()
        self._engine.check()

    def _stop(self) -> None:
        self._shared.shutdown.request()  # first: closing the port may take seconds; the running instance is the last
        _log.info("node.stop_requested")
        if self._scp is not None:
            self._scp.stop()
        self._commitments.stop()
        self._housekeeping.stop()
        self._engine.stop()
        self._audit.stop()
        abort_all()  # those on which a peer is asked what it has
        self._http.stop()
        _log.info("node.stopped")
