"""Replaces ``Association._serve_request`` of a requestor."""

import contextlib
import queue
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT

EventReports = queue.Queue[tuple[N_EVENT_REPORT, int]]
"""N-EVENT-REPORT requests that came on an association, each with the ID of its presentation context."""


def keep_event_reports(association: Association, event_reports: EventReports) -> None:
    """Leave every N-EVENT-REPORT request, the only one that a requestor is sent, to the thread that called us.

    pynetdicom 3.0.4 serves each in a thread of its own, which marks the association's reactor as running when it may
    be paused: a release at that moment would wait for ever.
    """

    def keep(message: Any, context_id: int) -> None:
        if isinstance(message, N_EVENT_REPORT):
            with contextlib.suppress(queue.Full):  # the association has ended; the peer gets no answer
                event_reports.put_nowait((message, context_id))

    association._serve_request = keep  # type: ignore[method-assign, assignment]  # no other way
