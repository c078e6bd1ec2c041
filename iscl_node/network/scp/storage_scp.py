"""Storage SCP: takes CT instances from peers and answers success only when they are safe (PS3.4 B)."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE, UserIdentityNegotiation
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from iscl_node.domain import CT_STORAGE, MULTIFRAME_CT_STORAGE, Peer, ReceivedInstance, ReceptionLimits, Tls
from iscl_node.errors import ConfigurationError, RejectInstanceError
from iscl_node.logs import unforeseen_logged
from iscl_node.metrics import Metrics
from iscl_node.network.commitment_reports import (
    RESOURCE_LIMITATION,
    STORAGE_COMMITMENT,
    Report,
    answered,
    on_behalf_of,
)
from iscl_node.network.implementation import named_entity
from iscl_node.network.patches.discarded import Discarded
from iscl_node.network.patches.pdu_reader import MAXIMUM_PDU_LENGTH, prepare_connection
from iscl_node.network.patches.requests_in_turn import serve_in_turn
from iscl_node.network.patches.wake_ups import WakingUp
from iscl_node.network.refusals import Refusal
from iscl_node.network.scp import commitment_requests
from iscl_node.network.scp.admission import Admission
from iscl_node.network.scp.authorization import Authorization, Rejection
from iscl_node.network.scp.intake import Intake
from iscl_node.network.scp.refused_contexts import tell_refused_contexts
from iscl_node.network.scp.requests_in_hand import RequestsInHand
from iscl_node.network.scp.server import HardenedServer, start_server
from iscl_node.network.scp.store_messages import data_set, length, received_instance, response
from iscl_node.network.tls import ServerTls

DEFLATED = "1.2.840.10008.1.2.1.99"
"""Deflated Explicit VR Little Endian (PS3.5 A.5), for single frames only: it must be inflated in memory to be read, so
the size is bounded there, at less than a multi-frame image has. A sender has a native syntax, too (PS3.5 10.1)."""

TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian (retired)
    DEFLATED,
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless, Non-Hierarchical (Process 14)
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14, Selection Value 1)
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.51",  # JPEG Extended (Process 2 and 4), 12 bits
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.202",  # High-Throughput JPEG 2000 with RPCL Options, Lossless
    "1.2.840.10008.1.2.4.203",  # High-Throughput JPEG 2000
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline, 8 bits: accepted, then refused with the reason: no HU scale
)
"""Transfer syntaxes accepted for CT, those whose pixels can be decoded here; written as received."""

REPORT_SYNTAXES = list(TRANSFER_SYNTAXES[:2])
"""Explicit and Implicit VR Little Endian, for storage commitment reports."""

_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110
_OUT_OF_RESOURCES = 0xA700

_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21); result 2 is transient, worth another try."""
_NO_REASON_GIVEN = (2, 1, 1)

_NO_MAXIMUM = 1 << 30
"""For pynetdicom, which would count half-open connections as associations; `Admission` counts them."""
_DIMSE_SECONDS = 60
_ARTIM_AFTER_SECONDS = 5
"""pynetdicom's ARTIM timer (PS3.8 9.1.5) only ends what `Admission` has not ended before."""

_LIMIT_SETTINGS = {
    Refusal.ALL_ASSOCIATIONS: "max_associations under [scp]",
    Refusal.HOST_ASSOCIATIONS: "max_associations_per_host under [scp]",
}

_log = structlog.get_logger(__name__)


class StorageScp:
    """A Storage SCP for CT in one frame or many (:data:`domain.CT_STORAGE`), and a Verification SCP.

    As Storage Commitment SCU it takes reports, too, on associations that the peers open for them.

    Parameters
    ----------
    ae_title : str
        Ours; associations that call another one are rejected.
    host : str
        The address to listen on.
    port : int
        The port to listen on; 0 for any free one, then see `port`.
    peers : sequence of Peer
        What they may is up to `Authorization`.
    accept_unknown_peers : bool
        Whether everyone else may store, too.
    receive : callable
        Makes an instance durable, or raises `RejectInstanceError`. Called from one thread per association.
    report : callable, optional
        Makes a storage commitment report durable, or raises `UnknownTransactionError`; a peer that does not get our
        answer gives the same report again. Without it no reports are taken.
    commitments : KeepsRequests, optional
        Takes requests for storage commitment. Without it the node commits to nothing.
    metrics : Metrics
        Counts the answers and the refusals.
    limits : ReceptionLimits
        What all peers together, and one of them, may take.
    tls : Tls or None
        None for no TLS.
    refused : callable
        Called for each connection or association that is refused: why (a value of `Refusal`), host, and calling AE
        title, which is empty where it is not known.
    """

    def __init__(
        self,
        *,
        ae_title: str,
        host: str,
        port: int,
        peers: Sequence[Peer],
        accept_unknown_peers: bool,
        receive: Callable[[ReceivedInstance], None],
        metrics: Metrics,
        limits: ReceptionLimits = ReceptionLimits(),  # noqa: B008 - frozen
        tls: Tls | None = None,
        report: Report | None = None,
        commitments: commitment_requests.KeepsRequests | None = None,
        refused: Callable[[str, str, str], None] = lambda _reason, _host, _calling: None,
    ) -> None:
        self._ae_title = ae_title
        self._address = (host, port)
        self._authorization = Authorization(ae_title, peers, accept_unknown_peers, commitments is not None)
        self._receive = receive
        self._report = report
        self._commitments = commitments
        self._metrics = metrics
        self._limits = limits
        self._tls = tls
        self._refused = refused
        self._admission = Admission(limits, self._count_refusal)
        self._intake = Intake(limits, self._count_refusal)
        self._in_hand = RequestsInHand()
        self._waking_up = WakingUp()
        self._server: HardenedServer | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; the one asked for before `start`."""
        return self._address[1] if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Listen, in threads of their own; returns at once.

        Raises
        ------
        ConfigurationError
            The address cannot be listened on, or a file of the TLS settings cannot be used.
        """
        host, port = self._address
        tls = None if self._tls is None else ServerTls(self._tls)
        try:
            self._server = start_server(
                entity_accepting(
                    self._ae_title,
                    self._limits,
                    reports=self._report is not None,
                    commits=self._commitments is not None,
                ),
                self._address,
                admission=self._admission,
                refused=self._count_refusal,
                request_seconds=self._limits.request_seconds,
                tls=tls,
                evt_handlers=self._handlers(),
            )
        except OSError as error:
            message = f"cannot listen on {host}:{port}: {error.strerror}; see scp.host and scp.port in the settings"
            raise ConfigurationError(message) from error
        _log.info("scp.opened", ae_title=self._ae_title, host=host, port=self.port, tls=self._tls is not None)

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Stop listening, let running requests be answered, then end the associations.

        Parameters
        ----------
        timeout_seconds : float
            How long to wait for the answers. What is not answered by then stays with its sender.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        self._address = (self._address[0], int(server.server_address[1]))
        self._in_hand.refuse()
        server.shutdown()
        if not self._in_hand.wait(timeout_seconds):
            _log.warning("requests.left_unanswered", waited_seconds=timeout_seconds)
        for association in server.active_associations:
            _end(association)

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_CONN_OPEN, prepare_connection, [self._count_refusal, self._limits.pdu_seconds]),
            (evt.EVT_CONN_OPEN, self._admission.on_connection),
            (evt.EVT_CONN_OPEN, self._intake.on_connection),
            (evt.EVT_CONN_OPEN, serve_in_turn),
            (evt.EVT_CONN_CLOSE, self._admission.on_connection_closed),
            (evt.EVT_ABORTED, self._admission.on_aborted),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ACCEPTED, tell_refused_contexts),
            (evt.EVT_ACCEPTED, self._waking_up.begin),
            (evt.EVT_CONN_CLOSE, self._waking_up.end),
            (evt.EVT_PDU_RECV, self._intake.on_pdu),
            (evt.EVT_C_STORE, self._on_c_store),
            (evt.EVT_N_EVENT_REPORT, self._on_event_report),
            (evt.EVT_N_ACTION, self._on_action),
            (evt.EVT_PDU_SENT, self._on_pdu_sent),
        ]

    def _count_refusal(self, reason: str, host: str, calling: str = "") -> None:
        self._metrics.refused_connections.labels(reason=reason).inc()
        with unforeseen_logged("refusal.not_reported", host=host, reason=reason):
            self._refused(reason, host, calling)

    def _on_requested(self, event: Event) -> None:
        """Judge an association; pynetdicom 3.0.4 accepts one whose handler of this event raises."""
        host = _address(event.assoc)
        with unforeseen_logged("association.not_judged", host=host):
            self._judge(event.assoc)
            return
        self._count_refusal(Refusal.NOT_JUDGED, host)
        _reject(event.assoc, _NO_REASON_GIVEN)

    def _judge(self, association: Association) -> None:
        """Reject an association from a stranger, for somebody else, or beyond the limits; say what would let it in."""
        request = association.requestor.primitive
        if not isinstance(request, A_ASSOCIATE):
            return
        calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
        host = _address(association)
        user = association.requestor.user_identity
        proposed = [str(context.abstract_syntax) for context in request.presentation_context_definition_list]
        rejection = self._authorization.rejection(calling, called, host, user, proposed) or self._exceeded(association)
        if rejection is None:
            self._prepare_acceptance(association, calling, user, proposed)
            return
        _log.warning(
            "association.rejected",
            calling_ae_title=calling,
            called_ae_title=called,
            host=host,
            reason=rejection.reason,
            setting_that_accepts=rejection.setting,
        )
        self._count_refusal(rejection.reason, host, calling)
        _reject(association, rejection.answer)

    def _prepare_acceptance(
        self, association: Association, calling: str, user: UserIdentityNegotiation | None, proposed: Sequence[str]
    ) -> None:
        acceptor = association.acceptor
        acceptor.supported_contexts = self._authorization.offered(
            acceptor.supported_contexts, calling, _address(association), user, proposed
        )
        confirmation = self._authorization.confirmation(calling, user)
        if confirmation is not None:
            acceptor.add_negotiation_item(confirmation)

    def _exceeded(self, association: Association) -> Rejection | None:
        exceeded = self._admission.admit(association)
        return Rejection(_LOCAL_LIMIT_EXCEEDED, exceeded, _LIMIT_SETTINGS[exceeded]) if exceeded else None

    def _on_c_store(self, event: Event) -> Dataset:
        calling = _calling_ae_title(event.assoc)
        if self._in_hand.admit(event.assoc):
            status, comment = self._outcome(event, calling)
        else:
            status, comment = _OUT_OF_RESOURCES, "the node is stopping"
        self._intake.done(event.assoc, length(data_set(event)))
        label = calling if self._authorization.knows(calling) else "unknown"
        self._metrics.received_instances.labels(calling_ae_title=label, status=f"{status:04X}").inc()
        return response(status, comment)

    def _outcome(self, event: Event, calling: str) -> tuple[int, str]:
        """The status of a C-STORE request and, for a failure, why (PS3.4 B.2.3)."""
        try:
            with unforeseen_logged("instance.failed", RejectInstanceError, calling_ae_title=calling):
                instance = received_instance(event, calling)
                self._receive(instance)
                self._metrics.received_bytes.inc(len(instance.part10))
                self._metrics.last_received_timestamp_seconds.set(time.time())
                return _SUCCESS, ""
        except RejectInstanceError as error:
            status = f"{error.status:04X}"
            _log.warning("instance.rejected", calling_ae_title=calling, status=status, reason=error.reason)
            return error.status, error.reason
        return _PROCESSING_FAILURE, "unexpected error in the node"

    def _on_event_report(self, event: Event) -> tuple[int, None]:
        request: Any = event.request
        status = RESOURCE_LIMITATION
        is_kept = not isinstance(request.EventInformation, Discarded)
        if is_kept and self._report is not None and self._in_hand.admit(event.assoc):
            calling, requestor = _calling_ae_title(event.assoc), event.assoc.requestor
            titles = self._authorization.reported_for(calling, _address(event.assoc), requestor.user_identity)
            report = on_behalf_of(titles, self._report)
            status = answered(request, event.context.transfer_syntax, calling, report)
        self._intake.done(event.assoc, length(request.EventInformation))
        return status, None

    def _on_action(self, event: Event) -> tuple[int, None]:
        """Take a request for storage commitment, from those who may store."""
        request: Any = event.request
        calling, status = _calling_ae_title(event.assoc), RESOURCE_LIMITATION
        keeper = self._commitments if self._authorization.knows(calling) else None
        if not isinstance(request.ActionInformation, Discarded) and self._in_hand.admit(event.assoc):
            status = commitment_requests.answered(request, event.context.transfer_syntax, calling, keeper)
        self._intake.done(event.assoc, length(request.ActionInformation))
        return status, None

    def _on_pdu_sent(self, event: Event) -> None:
        if isinstance(event.pdu, P_DATA_TF):
            self._in_hand.answered(event.assoc)


def entity_accepting(ae_title: str, limits: ReceptionLimits, *, reports: bool = True, commits: bool = False) -> AE:
    """Return the application entity with the presentation contexts that the SCP accepts.

    Storage Commitment is accepted from peers that take the role of its SCP, and from those that do not say so.
    """
    entity = named_entity(ae_title)
    entity.maximum_associations = _NO_MAXIMUM
    entity.maximum_pdu_size = MAXIMUM_PDU_LENGTH
    entity.acse_timeout = limits.request_seconds + _ARTIM_AFTER_SECONDS
    entity.dimse_timeout = _DIMSE_SECONDS
    entity.network_timeout = limits.idle_seconds
    entity.add_supported_context(Verification)
    if reports or commits:
        entity.add_supported_context(STORAGE_COMMITMENT, REPORT_SYNTAXES, scu_role=commits, scp_role=reports)
    for sop_class in CT_STORAGE:
        refused = (DEFLATED,) if sop_class in MULTIFRAME_CT_STORAGE else ()
        entity.add_supported_context(sop_class, [each for each in TRANSFER_SYNTAXES if each not in refused])
    return entity


def _calling_ae_title(association: Association) -> str:
    return str(association.requestor.ae_title).strip()


def _address(association: Association) -> str:
    return str(association.requestor.address)


def _reject(association: Association, answer: tuple[int, int, int]) -> None:
    association.acse.send_reject(*answer)
    association.kill()  # returns when the rejection is sent, as pynetdicom's own rejections do


def _end(association: Association) -> None:
    """Abort an association, or drop the connection that never became one, and wait for its threads."""
    if association.is_established:
        association.abort(block=False)
        association.join(1.0)
    transport = association.dul.socket
    if transport is not None:
        transport.close()  # wakes a thread that waits in the middle of a PDU
    association.kill()
