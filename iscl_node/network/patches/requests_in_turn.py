"""Replaces ``Association._serve_request`` of an acceptor, for reports of storage commitment."""

import threading
from typing import Any

from pynetdicom.events import Event


def serve_in_turn(event: Event) -> None:
    """Have reports served one after the other by the association's own thread; for pynetdicom's EVT_CONN_OPEN.

    pynetdicom 3.0.4 starts a thread for each, however many come. In the queue of requests `Intake` counts them.
    """
    association = event.assoc
    serve = association._serve_request

    def serve_or_queue(message: Any, context_id: int) -> None:
        if threading.current_thread() is association:
            serve(message, context_id)
        else:
            association.dimse.msg_queue.put((context_id, message))

    association._serve_request = serve_or_queue  # type: ignore[method-assign, assignment]  # no other way
