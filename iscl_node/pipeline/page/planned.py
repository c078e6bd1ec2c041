"""What the page shows of a batch's plan; of one that is damaged, or of another release, what is as it is known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Planned:
    """What was decided for a batch; empty until it was. ``not_before`` is when its hours begin (ISO 8601)."""

    rule: str = ""
    send_to: tuple[str, ...] = ()
    series_uids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    strengths: tuple[float, ...] = ()
    source_noise_hu: float | None = None
    not_before: str = ""


def planned_of(plan: Mapping[str, Any]) -> Planned:
    """What a plan says."""
    found = plan.get("rule")
    rule = found if isinstance(found, dict) else {}
    return Planned(
        _text(rule.get("name")),
        _texts(rule.get("send_to")),
        _texts(plan.get("series_uids")),
        _texts(plan.get("notes")),
        tuple(each for each in _listed(rule.get("strengths")) if _is_number(each)),
        rule.get("source_noise_hu") if _is_number(rule.get("source_noise_hu")) else None,
        _text(rule.get("not_before")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(each for each in _listed(value) if isinstance(each, str))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
