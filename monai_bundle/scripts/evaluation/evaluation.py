"""Measure a model on pairs of normal and low dose: every form of its result, slice by slice."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from ignite.engine import Engine, Events
from monai.engines import Evaluator

from .figures import NOTICE
from .forms import Estimates
from .image_quality import Image

DRAW = re.compile(r"(^|/)seed\d+(?=/)")
"""A folder that holds one draw of the noise of the slices in it."""


@dataclass(frozen=True)
class EvaluatedPair:
    """One pair and what the model makes of it.

    Attributes
    ----------
    name : str
        The low-dose file below its folder.
    patient : str
        Empty where unknown.
    spacing_mm : float
        Distance of two pixels; NaN where unknown, or where rows and columns differ by over 1 %.
    normal : ndarray
        (H, W), HU.
    estimates : Estimates
        Of F and H.
    number, count : int
        This is pair ``number``, from 1 on, of ``count``.
    """

    name: str
    patient: str
    spacing_mm: float
    normal: Image
    estimates: Estimates
    number: int
    count: int

    @cached_property
    def forms(self) -> dict[str, Image]:
        """Every form of the result, (H, W) HU."""
        return self.estimates.forms()

    @property
    def window(self) -> tuple[float, float]:
        """Ends of the window that the model is measured in, HU."""
        return self.estimates.denoiser.window.measured()

    @property
    def slice_name(self) -> str:
        """The name without the folder of the draw: draws of the noise of one slice share it."""
        return DRAW.sub("", self.name).lstrip("/")


class Part(Protocol):
    """One part of the report."""

    def add(self, pair: EvaluatedPair) -> None:
        """Measure a pair."""

    def write(self, folder: Path) -> str:
        """Write the files of this part, and return its section of the summary, Markdown."""


class EvaluationReport:
    """Show every pair that an evaluator has seen to the parts of the report, and write them at the end.

    Parameters
    ----------
    output_dir : str
        Gets ``summary.md`` and the files of the parts.
    parts : sequence of Part
        In the order of the summary.
    """

    def __init__(self, output_dir: str, parts: Sequence[Part]) -> None:
        self.folder = Path(output_dir)
        self.parts = parts

    def attach(self, engine: Evaluator) -> None:
        """Measure after every iteration, write when ``engine`` has seen all pairs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def add(self, engine: Engine) -> None:
        """Measure the pair that the engine has just seen."""
        state = engine.state
        rows, columns = np.asarray(state.batch["spacing_mm"][0], float)
        pair = EvaluatedPair(
            name=state.batch["name"][0],
            patient=state.batch["patient"][0],
            spacing_mm=float(rows) if abs(rows - columns) <= 0.01 * rows else np.nan,
            normal=state.output["label"][0, 0].numpy(force=True),
            estimates=state.output["pred"],
            number=state.iteration,
            count=state.epoch_length,
        )
        for part in self.parts:
            part.add(pair)

    def write(self, engine: Evaluator) -> None:
        """Write everything."""
        sections = ["# Evaluation", *(part.write(self.folder) for part in self.parts), f"{NOTICE}."]
        path = self.folder / "summary.md"
        path.write_text("\n\n".join(section.strip() for section in sections if section) + "\n", encoding="utf-8")
        engine.logger.info(f"results: {path} and the tables and figures beside it")
