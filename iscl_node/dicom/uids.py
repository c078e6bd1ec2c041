"""Identifiers that are computed, never drawn: the same source and the same settings give the same UID.

A step that runs twice, on any machine, so makes the same objects, and an archive that gets them
twice sees a duplicate instead of a second series.
"""

import hashlib
import uuid
from typing import Final

from pydicom.uid import UID

from iscl_node.domain import FIRST_UID_SCHEME, Derivation
from iscl_node.domain.strength import AutoStrength, StrengthChoice

_NAME: Final = "iscl-node/2"
"""Goes into the hashes of numbers and devices, which are the same for all schemes of UIDs."""

SERIES: Final = "series"
INSTANCE: Final = "instance"

OWN_NUMBERS: Final = 250
"""How many Series Numbers there are for what is derived from one series."""

_FIRST_TARGET: Final = 101
_TARGETS: Final = 24


def hashed_uid(*parts: str) -> UID:
    """Return the UID (PS3.5 B.2) that stands for the parts, the first of which names who computes it and how."""
    return UID(f"2.25.{_uuid_of(*parts).int}")


def derived_uid(source_uid: str, derivation: Derivation, role: str) -> UID:
    """Return the UID of what becomes of a source under a derivation.

    Only settings that change pixels take part: the model's digest, the profile and the strength; of one that the
    noise decides, the target and not the number, so that a late slice joins its series. The suffix of the Series
    Description and the node's version do not.

    Parameters
    ----------
    source_uid : str
        The Series or SOP Instance UID of the source.
    derivation : Derivation
        How the source is processed.
    role : str
        What the UID is for, ``SERIES`` or ``INSTANCE``: one source UID never gives the same UID in two roles.

    Returns
    -------
    UID
        ``2.25.`` and the decimal form of a UUID (PS3.5 B.2), at most 44 characters.
    """
    return hashed_uid(derivation.uid_scheme, role, source_uid, *_pixel_settings(derivation))


def instance_uid(series_uid: str, source: str, derivation: Derivation, role: str = INSTANCE) -> UID:
    """Return the SOP Instance UID of what becomes of an instance of a series.

    The source's Series Instance UID takes part, because a series may be copied under a new one with its SOP Instance
    UIDs, and an archive keeps one object of each UID. In the first scheme it did not.

    Parameters
    ----------
    series_uid : str
        The source's Series Instance UID.
    source : str
        The source's SOP Instance UID, or what names several sources.
    derivation : Derivation
        How the source is processed.
    role : str
        What the UID is for.
    """
    if derivation.uid_scheme == FIRST_UID_SCHEME:
        return derived_uid(source, derivation, role)
    return hashed_uid(derivation.uid_scheme, role, series_uid, source, *_pixel_settings(derivation))


def device_uid(derivation: Derivation) -> UID:
    """Return the Device UID (0018,1002) under which the node contributes: one per node version and model."""
    return hashed_uid(_NAME, "device", derivation.node_version, derivation.model.digest)


def derivation_number(source_series_uid: str, derivation: Derivation, count: int) -> int:
    """Return a number in ``range(count)`` that stays the same for the same source series and settings.

    Strengths of one model and profile have the same number only if :func:`strength_number` gives them the same.
    """
    model = _uuid_of(_NAME, "number", source_series_uid, derivation.model.digest, derivation.profile).int
    return (model + strength_number(_choice(derivation), count)) % count


def strength_number(choice: StrengthChoice, count: int) -> int:
    """Return a number in ``range(count)`` for a strength: of a count above 124 all whole percents differ.

    Targets of automatic strengths come behind them; those differ that are 1 to 23 whole HU apart.
    """
    if isinstance(choice, AutoStrength):
        return (_FIRST_TARGET + round(choice.target_noise_hu) % _TARGETS) % count
    return round(100 * choice) % count


def hashed_number(source_series_uid: str, count: int) -> int:
    """Return a number in ``range(count)`` that stands for a series without a usable Series Number."""
    return _uuid_of(_NAME, "series number", source_series_uid).int % count


def _pixel_settings(derivation: Derivation) -> tuple[str, ...]:
    target_hu = derivation.target_noise_hu
    strength = repr(float(derivation.strength)) if target_hu is None else f"auto {float(target_hu)!r}"
    return derivation.model.digest, derivation.profile, strength


def _choice(derivation: Derivation) -> StrengthChoice:
    target_hu = derivation.target_noise_hu
    return derivation.strength if target_hu is None else AutoStrength(target_hu)


def _uuid_of(*parts: str) -> uuid.UUID:
    """Hash the parts into a UUID of version 8, which RFC 9562 5.8 leaves to the maker."""
    digest = bytearray(hashlib.sha256("\n".join(parts).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return uuid.UUID(bytes=bytes(digest))
