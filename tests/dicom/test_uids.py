"""Computed identifiers: the same for the same source and settings, another for any that changes pixels."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from iscl_node.dicom.uids import (
    INSTANCE,
    SERIES,
    derivation_number,
    derived_uid,
    device_uid,
    instance_uid,
)
from iscl_node.domain import (
    FIRST_UID_SCHEME,
    IMPLEMENTATION_CLASS_UID,
    Derivation,
    ModelIdentity,
    implementation_version_name,
)

SOURCE = "1.2.840.113619.2.55.3"
DERIVATION = Derivation(ModelIdentity("m", "1", "ab" * 32), "abdomen", 1.0, " ISCL", "0.1.0")


def test_is_the_same_for_ever() -> None:
    """A change of this constant would make every archive store its derived series a second time."""
    first = replace(DERIVATION, uid_scheme=FIRST_UID_SCHEME)
    assert derived_uid(SOURCE, first, INSTANCE) == "2.25.214832980388756905760211382593397962886"
    assert instance_uid("1.2", SOURCE, first) == derived_uid(SOURCE, first, INSTANCE)
    assert instance_uid("1.2", SOURCE, DERIVATION) == "2.25.22718020509942549922914982017035793272"


def test_instances_of_two_series_with_the_same_uids_differ() -> None:
    assert instance_uid("1.2", SOURCE, DERIVATION) != instance_uid("1.3", SOURCE, DERIVATION)


@pytest.mark.parametrize(
    "other",
    [
        replace(DERIVATION, strength=0.5),
        replace(DERIVATION, profile="chest"),
        replace(DERIVATION, model=ModelIdentity("m", "1", "cd" * 32)),
    ],
)
def test_changes_with_what_changes_pixels(other: Derivation) -> None:
    assert derived_uid(SOURCE, other, INSTANCE) != derived_uid(SOURCE, DERIVATION, INSTANCE)


@pytest.mark.parametrize(
    "other",
    [
        replace(DERIVATION, suffix=" X"),
        replace(DERIVATION, node_version="9"),
        replace(DERIVATION, strength=1),
        replace(DERIVATION, model=ModelIdentity("renamed", "1", "ab" * 32)),
    ],
)
def test_does_not_change_with_what_does_not(other: Derivation) -> None:
    assert derived_uid(SOURCE, other, INSTANCE) == derived_uid(SOURCE, DERIVATION, INSTANCE)


def test_differs_by_role_and_source() -> None:
    uids = {derived_uid(source, DERIVATION, role) for source in (SOURCE, "1.2") for role in (SERIES, INSTANCE)}
    assert len(uids) == 4


@given(st.text(), st.floats(0, 1))
def test_is_a_valid_uuid_derived_uid(source: str, strength: float) -> None:
    uid = derived_uid(source, replace(DERIVATION, strength=strength), SERIES)
    assert re.fullmatch(r"2\.25\.[1-9][0-9]{0,38}", uid)
    assert uid.is_valid


@given(st.lists(st.integers(0, 100), unique=True, min_size=2))
def test_strengths_in_steps_of_one_percent_have_numbers_of_their_own(steps: list[int]) -> None:
    numbers = {derivation_number(SOURCE, replace(DERIVATION, strength=0.01 * step), 500) for step in steps}
    assert len(numbers) == len(steps)
    assert numbers <= set(range(500))


def test_names_of_the_implementation() -> None:
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid
    assert implementation_version_name("0.1.0") == "ISCL_NODE_0.1.0"
    assert len(implementation_version_name("10.11.12rc1")) == 16
    assert device_uid(DERIVATION) != device_uid(replace(DERIVATION, node_version="9"))
