"""Instances for the spool tests, and what lies in a spool."""

from datetime import UTC, datetime

from iscl_node.domain import Batch, InstanceHeader
from iscl_node.store.spool import Spool

SERIES = "1.2.3"
NOW = datetime(2026, 11, 22, 23, 59, 59, 123456, tzinfo=UTC)


def header(sop: str = "1.2.3.1", series: str = SERIES) -> InstanceHeader:
    return InstanceHeader("1.2.840.10008.5.1.4.1.1.2", sop, "1.2", series, "1.2.840.10008.1.2.1")


def part10(data_set: bytes, source: bytes = b"SCANNER ") -> bytes:
    """A DICOM File Format stream with little more in its group 0002 than who sent it."""
    group = b"\x02\x00\x16\x00AE" + len(source).to_bytes(2, "little") + source
    return bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + len(group).to_bytes(4, "little") + group + data_set


def files(spool: Spool) -> list[str]:
    return sorted(str(path.relative_to(spool.root)) for path in spool.root.rglob("*") if path.is_file())


def arrival(spool: Spool, series: str = SERIES) -> float:
    return (spool.root / "open" / series).stat().st_mtime


def quarantined_series(spool: Spool, reason: str = "why") -> Batch:
    spool.store(header(), part10(b"a"))
    batch = spool.close(SERIES, NOW)
    spool.quarantine(batch, reason)
    return batch


def quarantined_series_of(spool: Spool, series: str) -> Batch:
    spool.store(header(series=series), part10(b"a"))
    batch = spool.close(series, NOW)
    spool.quarantine(batch, "why")
    return batch
