"""The page and what machines look at, in a thread of its own."""

import socket
import threading
import time
from collections.abc import Mapping
from typing import Final

from iscl_node.assembly.node_audit import NodeAudit
from iscl_node.assembly.page import pages
from iscl_node.assembly.shared import Shared
from iscl_node.logs import LogOutput
from iscl_node.pipeline.housekeeping import Housekeeping
from iscl_node.pipeline.page.decisions import Decisions
from iscl_node.pipeline.page.fleet import Fleet
from iscl_node.web.app import web_app
from iscl_node.web.limits import listening, raise_descriptor_limit, web_server

_STALLED_SECONDS: Final = 60
"""Housekeeping that has not ticked for this long makes the node not ready."""


class Http:
    """The HTTP side.

    Parameters
    ----------
    shared : Shared
        With the settings and what is shown.
    audit : NodeAudit
        Records what is decided on the page.
    housekeeping : Housekeeping
        Must tick, or the node is not ready.
    log_output : LogOutput
        Whether it loses lines is a note of /readyz.
    """

    def __init__(self, shared: Shared, audit: NodeAudit, housekeeping: Housekeeping, log_output: LogOutput) -> None:
        self._shared = shared
        self._housekeeping = housekeeping
        self._log_output = log_output
        self._host, self._port = shared.settings.http.host, shared.settings.http.port
        categories = {rule.name: rule.ct_category for rule in shared.settings.rules}
        fleet = Fleet(shared.spool.root, categories=categories)
        shared.metrics.noisier_protocols.set_function(fleet.noisier)
        receiving = [name for name, peer in shared.peers.items() if peer.may_receive]
        decisions = Decisions(shared.spool, audit.record_decision, receiving, shared.running_time.seconds)
        shown = pages(shared.settings, shared.spool.root, shared.peers, fleet, decisions)
        app = web_app(shared.metrics.registry, self._readiness, self._notes, shown)
        self._server = web_server(app, self._host, self._port)
        self._sockets: list[socket.socket] = []

    def listen(self) -> None:
        """Take the port.

        Raises
        ------
        ConfigurationError
            It cannot be listened on.
        """
        raise_descriptor_limit()
        self._sockets = [listening(self._host, self._port)]

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._server.run, args=(self._sockets,), name="web", daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.should_exit = True

    def _readiness(self) -> Mapping[str, bool]:
        spool, least_bytes = self._shared.spool, self._shared.settings.spool.min_free_bytes
        return {
            "spool_has_space": spool.free_bytes() >= least_bytes,
            "housekeeping_runs": time.monotonic() - self._housekeeping.last_tick < _STALLED_SECONDS,
            "not_stopping": not self._shared.shutdown.requested,
        }

    def _notes(self) -> Mapping[str, bool]:
        return {"log_is_written": not self._log_output.is_losing}
