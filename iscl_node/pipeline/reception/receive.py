"""From the wire to the spool: what happens before a sender gets its answer."""

from collections.abc import Callable

import structlog

from iscl_node.dicom.reading.folder import differing
from iscl_node.dicom.reading.header import read_header
from iscl_node.domain import Arrival, ReceivedInstance
from iscl_node.metrics import Metrics
from iscl_node.pipeline.audit.what_happened import NO_AUDIT, Audit
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.store.spool import Spool

_log = structlog.get_logger(__name__)


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

    def receive(instance: ReceivedInstance) -> None:
        header = read_header(instance.part10)
        arrival = spool.store(header, instance.part10, differing)
        metrics.arrivals.labels(arrival=arrival.value).inc()
        if headers is not None and arrival is Arrival.NEW and (path := spool.place_of(header)) is not None:
            headers.keep(path, instance.part10)
        audit.came_from(header.series_instance_uid, instance.calling_ae_title, instance.calling_address)
        if arrival is Arrival.CONFLICT:
            audit.conflict(header.series_instance_uid, instance.part10)
            _log.warning(
                "instance.conflict",
                reason="another data set arrived under a SOP Instance UID that was here; it is kept in quarantine",
                calling_ae_title=instance.calling_ae_title,
                series_uid=header.series_instance_uid,
                sop_uid=header.sop_instance_uid,
            )

    return receive
