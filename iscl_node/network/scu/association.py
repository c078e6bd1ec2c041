"""An association we request: opened with time limits, guarded, and released at the end."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from iscl_node.domain import Peer
from iscl_node.errors import ConfigurationError, RetryLaterError
from iscl_node.network.identity_items import user_identity
from iscl_node.network.implementation import named_entity
from iscl_node.network.patches.broken_message import abort_at_broken_message
from iscl_node.network.patches.broken_negotiation import is_whole
from iscl_node.network.patches.broken_pdu import abort_at_broken_pdu
from iscl_node.network.patches.event_reports import EventReports, keep_event_reports
from iscl_node.network.patches.pdu_reader import MAXIMUM_PDU_LENGTH, prepare_connection
from iscl_node.network.patches.responses import keep_responses_from_reactor
from iscl_node.network.patches.waiting import wake_at_broken_protocol
from iscl_node.network.patches.wake_ups import waking_up
from iscl_node.network.scu.answers import lies_told
from iscl_node.network.tls import ClientContext, client_context

_CONNECTION_SECONDS = 10
_ACSE_SECONDS = 30
_DIMSE_SECONDS = 60
_NETWORK_SECONDS = 60

_LONGEST_MESSAGE = 4 << 20
"""Bytes. The longest that we are sent is a storage commitment report: 150 for each instance."""
_MOST_RESPONSES = 100_000
"""That wait to be read; one for each instance that a C-FIND matches."""
_MOST_EVENT_REPORTS = 16
"""That a peer does not answer."""

_CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 3)
"""Source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""


_log = structlog.get_logger(__name__)


class NoAssociationError(RetryLaterError):
    """The peer took no association, or not as it should: nothing was asked of it."""


class NothingAcceptedError(NoAssociationError):
    """The peer took the association and none of its presentation contexts."""


@contextmanager
def established(
    peer: Peer,
    our_ae_title: str,
    contexts: Sequence[PresentationContext],
    *,
    answer_seconds: float | None = None,
    idle_seconds: float | None = None,
    event_reports: EventReports | None = None,
    role: SCP_SCU_RoleSelectionNegotiation | None = None,
) -> Iterator[Association]:
    """An association with ``peer`` for the length of a ``with`` block; released at its end, also after an error.

    Parameters
    ----------
    peer : Peer
        Whom to call.
    our_ae_title : str
        The calling AE title.
    contexts : sequence of PresentationContext
        At least one, at most 128 (PS3.8 9.3.2.2).
    answer_seconds : float, optional
        How long to wait for each answer; a minute by default.
    idle_seconds : float, optional
        How long the peer may send nothing at all; a minute by default.
    event_reports : queue, optional
        Takes the N-EVENT-REPORT requests of the peer, for the caller to answer. Without it they are left unanswered.
    role : SCP_SCU_RoleSelectionNegotiation, optional
        Of ours, where it is not that of the SCU (PS3.7 D.3.3.4).

    Raises
    ------
    NothingAcceptedError
        The peer accepts none of the contexts.
    NoAssociationError
        There is none: no connection, no answer in time, rejected or aborted. The message says which.
    """
    try:
        context = None if peer.tls is None else client_context(peer.tls)
    except ConfigurationError as error:
        raise NoAssociationError(f"{_name(peer)}: {error}") from error
    reports = queue.Queue(_MOST_EVENT_REPORTS) if event_reports is None else event_reports
    with lies_told(peer, "negotiation"):
        association = _request(peer, our_ae_title, contexts, context, reports, role)
    if not association.is_established:
        if context is not None and context.fault is not None:
            raise NoAssociationError(f"{_name(peer)}: TLS handshake failed ({_tls_reason(context.fault)})")
        raise _failure(peer, our_ae_title, association)
    if not is_whole(association):
        association.abort()
        raise NoAssociationError(f"{_name(peer)} accepted the association in a way that breaks its rules")
    association.dimse_timeout = answer_seconds or _DIMSE_SECONDS
    association.network_timeout = idle_seconds or _NETWORK_SECONDS
    try:
        with waking_up(association):
            yield association
    finally:
        if association.is_established:
            association.release()


def abort_all() -> None:
    """Abort every association that is left, so that a process that ends needs not wait for peers."""
    for thread in threading.enumerate():
        if isinstance(thread, Association):
            thread.abort()


def _request(
    peer: Peer,
    our_ae_title: str,
    contexts: Sequence[PresentationContext],
    context: ClientContext | None,
    event_reports: EventReports,
    role: SCP_SCU_RoleSelectionNegotiation | None,
) -> Association:
    entity = named_entity(our_ae_title)
    entity.connection_timeout = _CONNECTION_SECONDS
    entity.acse_timeout = _ACSE_SECONDS
    entity.dimse_timeout = _DIMSE_SECONDS
    entity.network_timeout = _NETWORK_SECONDS
    try:
        return entity.associate(
            peer.host,
            peer.port,
            contexts=list(contexts),
            ae_title=peer.ae_title,
            max_pdu=MAXIMUM_PDU_LENGTH,
            ext_neg=[*([] if peer.user is None else [user_identity(peer.user)]), *([] if role is None else [role])],
            tls_args=None if context is None or peer.tls is None else (context, peer.tls.server_name or peer.host),
            evt_handlers=[
                (evt.EVT_CONN_OPEN, prepare_connection),
                (evt.EVT_CONN_OPEN, _share_out_messages, [event_reports]),
                (evt.EVT_FSM_TRANSITION, wake_at_broken_protocol),
            ],
        )
    except OSError as error:
        raise NoAssociationError(f"{_name(peer)}: no connection ({error})") from error


def _failure(peer: Peer, our_ae_title: str, association: Association) -> NoAssociationError:
    """Why there is no association, in words."""
    answer = association.acceptor.primitive
    if association.is_rejected and isinstance(answer, A_ASSOCIATE):
        hint = f"; {_stranger_hint(our_ae_title)}" if _is_stranger(answer) else ""
        return NoAssociationError(f"{_name(peer)} rejected the association: {answer.reason_str}{hint}")
    if association.rejected_contexts and not association.accepted_contexts:
        wanted = sorted(
            {str(context.abstract_syntax.name) for context in association.rejected_contexts if context.abstract_syntax}
        )
        return NothingAcceptedError(
            f"{_name(peer)} does not accept {', '.join(wanted)} in any transfer syntax we offer"
        )
    if answer is None:
        hint = "" if peer.tls is None else ", and does it trust our certificate"
        return NoAssociationError(
            f"{_name(peer)}: no connection or no answer; is it running, and are host and port right{hint}?"
        )
    return NoAssociationError(
        f"{_name(peer)} ended the association before it was established; {_stranger_hint(our_ae_title)}"
    )


def _stranger_hint(our_ae_title: str) -> str:
    """The commonest first mistake."""
    return f"does it know us as {our_ae_title}? It must list this AE title with our address and port"


def _tls_reason(fault: OSError) -> str:
    """In OpenSSL's words, without the place in its sources."""
    words = getattr(fault, "verify_message", None) or getattr(fault, "reason", None) or fault.strerror
    return str(words or "no answer in time").replace("_", " ").lower()


def _is_stranger(answer: A_ASSOCIATE) -> bool:
    return (answer.result_source, answer.diagnostic) == _CALLING_AE_TITLE_NOT_RECOGNIZED


def _name(peer: Peer) -> str:
    return f"peer {peer.name} ({peer.ae_title} at {peer.host}:{peer.port})"


def _share_out_messages(event: Event, event_reports: EventReports) -> None:
    """See to it that each message gets to the thread that waits for it; for pynetdicom's EVT_CONN_OPEN."""
    association = event.assoc
    keep_responses_from_reactor(association)
    keep_event_reports(association, event_reports)
    is_told = threading.Event()

    def told() -> None:
        if not is_told.is_set():
            _log.warning("message.rejected", host=str(association.acceptor.address))
        is_told.set()

    abort_at_broken_pdu(association, told)
    abort_at_broken_message(association, told, _require_moderate_messages)


def _require_moderate_messages(association: Association) -> None:
    message = association.dimse.message
    so_far = () if message is None else (message.encoded_command_set, message.data_set)
    if any(part is not None and part.tell() > _LONGEST_MESSAGE for part in so_far):
        raise ValueError("too long")
    if association.dimse.msg_queue.qsize() > _MOST_RESPONSES:
        raise ValueError("too many")
