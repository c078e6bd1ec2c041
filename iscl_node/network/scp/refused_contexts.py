"""Logs presentation contexts that were not accepted: the reason why a sender's images do not come."""

import structlog
from pydicom.uid import UID
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

_MOST_TOLD = 8
"""Of one association; archives propose all that they know."""

_log = structlog.get_logger(__name__)


def tell_refused_contexts(event: Event) -> None:
    """Log what an association that was accepted will not carry: SOP Classes and transfer syntaxes (PS3.8 9.3.3.2)."""
    requestor = event.assoc.requestor
    proposed = {context.context_id: context for context in requestor.requested_contexts}
    refused = [proposed[context.context_id] for context in event.assoc.rejected_contexts]
    if refused:
        told = [_told(context) for context in refused[:_MOST_TOLD]]
        more = len(refused) - len(told)
        _log.info(
            "contexts.refused",
            calling_ae_title=requestor.ae_title.strip(),
            host=requestor.address,
            contexts="; ".join([*told, *([f"{more} more"] if more else [])]),
        )


def _told(context: PresentationContext) -> str:
    syntaxes = ", ".join(map(_name, context.transfer_syntax))
    return f"{_name(context.abstract_syntax or UID(''))} in {syntaxes}"


def _name(uid: UID) -> str:
    """Its name in the standard's words, or itself."""
    return str(uid.name)
