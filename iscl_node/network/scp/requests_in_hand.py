"""Requests that are being served, so that the server stops between them and not in one."""

import threading
import time
import weakref

from pynetdicom.association import Association

_POLL_SECONDS = 0.05


class RequestsInHand:
    """The associations whose request is not answered yet; an association has one at a time.

    Answered means that the response has left: a handler that returned is not enough to end the association.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._associations: weakref.WeakSet[Association] = weakref.WeakSet()
        self._refusing = False

    def admit(self, association: Association) -> bool:
        """Admit a request, unless refusing."""
        with self._change:
            if not self._refusing:
                self._associations.add(association)
            return not self._refusing

    def answered(self, association: Association) -> None:
        """Note that the association's response has left."""
        with self._change:
            self._associations.discard(association)
            self._change.notify_all()

    def refuse(self) -> None:
        """Admit nothing more."""
        with self._change:
            self._refusing = True

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until all is answered; False if the time was too short."""
        end = time.monotonic() + timeout_seconds
        with self._change:
            # A lost connection gives no notice, so look again now and then.
            while any(association.is_established for association in self._associations):
                if time.monotonic() >= end:
                    return False
                self._change.wait(_POLL_SECONDS)
        return True
