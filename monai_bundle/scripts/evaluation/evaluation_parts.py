"""Parts of an evaluation that look at one pair at a time: errors, the weight gamma, and strips of images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .evaluation import EvaluatedPair
from .evaluation_tables import Column, Row, grouped, means_table, write_csv
from .figures import draw_gamma, draw_strip
from .image_quality import SOFT_TISSUE_HU, bias_and_noise, psnr, rmse, ssim, uniform_tissue

QUALITY = (Column("psnr_db", "PSNR, dB", 2), Column("ssim", "SSIM", 4))
ERRORS = (
    *QUALITY,
    Column("rmse_hu", "RMSE, HU", 2),
    Column("bias_hu", "bias, HU", 2),
    Column("bias_hu", "absolute bias, HU", 2, absolute=True),
    Column("noise_hu", "noise, HU", 2),
)
ERROR_NOTES = """
Mean over the slices, standard deviation in brackets. 'ensemble' is equation (13), 'denoised' has the noise prior.
PSNR and SSIM: clipped to the HU window and scaled to [0, 255]; identical images have an infinite PSNR. RMSE: where the
normal dose lies in the window. Bias and noise: mean and standard deviation of the difference to the normal dose in
uniform soft tissue, {:g} to {:g} HU.
"""


class ErrorTable:
    """``metrics.csv``: errors against the normal dose, one row for each pair and form; means by patient.

    Parameters
    ----------
    uniform_range : (float, float)
        HU of what counts as soft tissue, see :func:`scripts.image_quality.uniform_tissue`.
    """

    def __init__(self, uniform_range: Sequence[float] = SOFT_TISSUE_HU) -> None:
        self.uniform_range = uniform_range
        self.rows: list[Row] = []

    def add(self, pair: EvaluatedPair) -> None:
        """Measure every form."""
        region = uniform_tissue(pair.normal, self.uniform_range)
        for form, image in pair.forms.items():
            bias, noise = bias_and_noise(image, pair.normal, region)
            self.rows.append(
                {
                    "name": pair.name,
                    "patient": pair.patient,
                    "form": form,
                    "psnr_db": psnr(image, pair.normal, pair.window),
                    "ssim": ssim(image, pair.normal, pair.window),
                    "rmse_hu": rmse(image, pair.normal, pair.window),
                    "bias_hu": bias,
                    "noise_hu": noise,
                }
            )

    def write(self, folder: Path) -> str:
        """Write the rows; return their means."""
        write_csv(folder / "metrics.csv", self.rows)
        parts = [means_table(self.rows, ERRORS) + "\n" + ERROR_NOTES.format(*self.uniform_range)]
        patients = grouped(self.rows, "patient")
        if len(patients) > 1:
            parts += [f"### {name or 'Unknown patient'}\n\n" + means_table(patients[name], ERRORS) for name in patients]
        return "\n\n".join(parts)


class GammaSweep:
    """``gamma.csv`` and ``gamma.png``: equation (13) over gamma, from x - H (0) to F (1), as the paper's Fig. 9.

    Parameters
    ----------
    gammas : sequence of float
        Weights of F; empty leaves this part out.
    """

    def __init__(self, gammas: Sequence[float]) -> None:
        self.gammas = gammas
        self.rows: list[Row] = []

    def add(self, pair: EvaluatedPair) -> None:
        """Measure every blend."""
        for gamma in () if pair.estimates.h is None else self.gammas:
            image = pair.estimates.blend(gamma)
            quality = {"psnr_db": psnr(image, pair.normal, pair.window), "ssim": ssim(image, pair.normal, pair.window)}
            self.rows.append({"name": pair.name, "patient": pair.patient, "gamma": gamma, **quality})

    def write(self, folder: Path) -> str:
        """Write the rows and the figure; return the means."""
        if not self.rows:
            return ""
        write_csv(folder / "gamma.csv", self.rows)
        means = [
            [np.mean([row[column.key] for row in part]) for column in QUALITY]
            for part in grouped(self.rows, "gamma").values()
        ]
        draw_gamma(folder / "gamma.png", self.gammas, *np.transpose(means))
        return "## Equation (13) over gamma\n\n" + means_table(self.rows, QUALITY, by="gamma")


class Strips:
    """``strip_N.png``: the forms of some slices side by side, and their errors, as the paper's Fig. 4.

    Parameters
    ----------
    count : int
        Slices to draw, spread evenly over the pairs; of each slice only one draw of the noise.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.drawn: list[EvaluatedPair] = []

    def add(self, pair: EvaluatedPair) -> None:
        """Keep the pair if it is time for another."""
        due = len(self.drawn) * pair.count < self.count * pair.number
        if due and pair.slice_name not in {each.slice_name for each in self.drawn}:
            self.drawn.append(pair)

    def write(self, folder: Path) -> str:
        """Draw the slices; return what is to be seen where."""
        lines = []
        for number, pair in enumerate(self.drawn, start=1):
            draw_strip(folder / f"strip_{number}.png", pair.forms, pair.normal, pair.window, pair.name)
            lines.append(f"* `strip_{number}.png`: {pair.name}")
        return "\n".join(["## Slices", "", *lines]) if lines else ""
