"""Replaces ``DIMSEServiceProvider.get_msg`` of a requestor (pynetdicom's issue 875)."""

from typing import Any

from pynetdicom.association import Association


def keep_responses_from_reactor(association: Association) -> None:
    """Leave every DIMSE response to the thread that waits for it.

    pynetdicom 3.0.4: the association's reactor polls the same queue without blocking, and now and then takes a response
    that `send_c_store` waits for ("Received unexpected C-STORE service message", then a stall until the time-out).
    As a requestor we are sent no requests through this queue, so the reactor's polls may always find it empty.
    """
    get_message = association.dimse.get_msg

    def get_message_for_waiting_thread(block: bool = False) -> Any:
        return get_message(block=True) if block else (None, None)

    association.dimse.get_msg = get_message_for_waiting_thread  # type: ignore[method-assign]  # see above
