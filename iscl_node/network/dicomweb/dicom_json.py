"""What the DICOM JSON Model (PS3.18 F) says, as far as the node asks for it."""

import json
from collections.abc import Mapping
from typing import Any, Final

FAILED_SOP_SEQUENCE: Final = "00081198"
REFERENCED_SOP_SEQUENCE: Final = "00081199"
REFERENCED_SOP_INSTANCE_UID: Final = "00081155"
FAILURE_REASON: Final = "00081197"
WARNING_REASON: Final = "00081196"
SOP_INSTANCE_UID: Final = "00080018"
SERIES_INSTANCE_UID: Final = "0020000E"

DataSet = Mapping[str, Any]


def data_sets(body: bytes) -> list[DataSet]:
    """The data sets of an answer, which is one or a list of them; raises what a decoder does."""
    content = json.loads(body) if body.strip() else []
    found = content if isinstance(content, list) else [content]
    if not all(isinstance(each, dict) for each in found):
        raise ValueError("no data set")
    return found


def values(data_set: DataSet, tag: str) -> list[Any]:
    """The values of an attribute; none if it is not there."""
    return list(data_set.get(tag, {}).get("Value", ()))


def value(data_set: DataSet, tag: str, default: Any = "") -> Any:
    """The first value of an attribute."""
    return next(iter(values(data_set, tag)), default)
