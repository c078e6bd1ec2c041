"""What is decided of a batch before anything is made of it; `iscl_node.store.plan` keeps it in the spool."""

from typing import TypedDict

from iscl_node.domain import OutputSyntax, Rule
from iscl_node.domain.strength import AutoStrength, ChosenStrength


class BegunRule(TypedDict):
    """The rule of a batch as it was when the batch was begun: what all derived instances must have in common.

    ``strengths`` are those of the rule, in its order, as they were chosen, and ``source_noise_hu`` and ``body_mm``
    decided on them. ``started`` is when the derived series were begun (ISO 8601, with the offset from UTC), and
    ``send_to`` where they go.
    """

    name: str
    suffix: str
    transfer_syntax: OutputSyntax
    strengths: list[float]
    source_noise_hu: float | None
    body_mm: float | None
    started: str
    send_to: list[str]


class Plan(TypedDict):
    """What is decided of a batch: the rule, the derived series' UIDs, and the files in the order of their positions.

    ``instances`` are all that were in the batch then; one that repeats another may be none of the files.
    """

    rule: BegunRule
    series_uids: list[str]
    files: list[str]
    instances: list[str]


def chosen_strengths(rule: Rule, begun: BegunRule) -> list[ChosenStrength]:
    """The rule's strengths; those that the noise decides are as they were chosen when the batch was begun."""
    recorded = [*begun["strengths"], *(0.0 for _ in rule.strengths)]  # of a rule that has more by now no series is made
    measured = begun["source_noise_hu"], begun["body_mm"]
    return [
        ChosenStrength(value, choice.target_noise_hu, *measured)
        if isinstance(choice, AutoStrength)
        else ChosenStrength(choice, None, *measured)
        for choice, value in zip(rule.strengths, recorded, strict=False)
    ]
