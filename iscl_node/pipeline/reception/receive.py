"""From the wire to the spool: what happens before a sender gets its answer."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

import structlog

from iscl_node.dicom.reading.folder import differing
from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import Arrival, ReceivedInstance
from iscl_node.metrics import Metrics
from iscl_node.pipeline.audit.what_happened import NO_AUDIT, Audit
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.store.spool import Spool

_log = structlog.get_logger(__name__)


_EVENTS: Final = {Arrival.NEW: "series.opened", Arrival.REPEATED: "series.repeated"}
_QUIET_SECONDS: Final = 60.0
"""After this many seconds a sender's repetitions, or its further instances, are logged again."""
_MOST_REMEMBERED: Final = 10_000


class _Begun:
    """What began lately, so that one line is logged for all instances of a series that a sender sends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[Hashable, float] = {}

    def note(self, key: Hashable) -> bool:
        """Whether nothing of this was noted for a while."""
        now = time.monotonic()
        with self._lock:
            latest = self._latest.pop(key, None)
            self._latest[key] = now
            if len(self._latest) > _MOST_REMEMBERED:
                self._latest.pop(next(iter(self._latest)))
        return latest is None or now - latest >= _QUIET_SECONDS


def reception(
    spool: Spool, metrics: Metrics, audit: Audit = NO_AUDIT, headers: KeptHeaders | None = None
) -> Callable[[ReceivedInstance], None]:
    """What the Storage SCP calls for each instance; it returns when the bytes are on disk.

    Raises (the returned function)
    ------------------------------
    RejectInstanceError
        If the data set cannot be understood or the spool cannot take it.
    """

    for each in Arrival:
        metrics.arrivals.labels(arrival=each.value)  # 0: of a counter that begins with 1 no alert sees the increase

    begun = _Begun()

    def receive(instance: ReceivedInstance) -> None:
        header = read_header(instance.part10)
        arrival = spool.store(header, instance.part10, differing)
        metrics.arrivals.labels(arrival=arrival.value).inc()
        if headers is not None and arrival is Arrival.NEW and (path := spool.place_of(header)) is not None:
            headers.keep(path, instance.part10)
        audit.came_from(header.series_instance_uid, instance.calling_ae_title, instance.calling_address)
        event = _EVENTS.get(arrival)
        if event and begun.note((header.series_instance_uid, instance.calling_ae_title, arrival)):
            _log.info(
                event,
                calling_ae_title=instance.calling_ae_title,
                host=instance.calling_address,
                series_uid=header.series_instance_uid,
            )
        if arrival is Arrival.CONFLICT:
            audit.conflict(header.series_instance_uid, instance.part10)
            _log.warning(
                "instance.conflict_found",
                reason="another data set arrived under a SOP Instance UID that was here; it is kept in quarantine",
                calling_ae_title=instance.calling_ae_title,
                series_uid=header.series_instance_uid,
                sop_uid=header.sop_instance_uid,
            )

    return receive
