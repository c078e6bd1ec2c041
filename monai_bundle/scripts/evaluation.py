"""Measure a model on pairs of normal and low dose: every form of the result, slice by slice."""

from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events
from monai.engines import Evaluator

from .evaluation_tables import METRICS, Row, write_csv, write_summary
from .forms import Estimates
from .image_quality import Image, bias_and_noise, psnr, rmse, ssim, uniform_tissue


class EvaluationReport:
    """Collect the measures of every slice during the run of an evaluator, and write them at its end.

    Parameters
    ----------
    output_dir : str
        Gets ``metrics.csv`` and ``summary.md``.
    uniform_range : (float, float)
        HU of what counts as soft tissue, see :func:`scripts.image_quality.uniform_tissue`.
    """

    def __init__(self, output_dir: str, uniform_range: Sequence[float] = (0.0, 80.0)) -> None:
        self.folder = Path(output_dir)
        self.uniform_range = uniform_range
        self.rows: list[Row] = []

    def attach(self, engine: Evaluator) -> None:
        """Measure after every iteration, write when ``engine`` has seen all pairs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.measure)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def measure(self, engine: Engine) -> None:
        """Add the rows of the pair that the engine has just seen."""
        estimates: Estimates = engine.state.output["pred"]
        labels = {key: engine.state.batch[key][0] for key in ("name", "patient")}
        normal = engine.state.output["label"][0, 0].numpy(force=True)
        window = estimates.denoiser.window.low, estimates.denoiser.window.high
        measured = measure_forms(estimates.forms(), normal, window, self.uniform_range)
        self.rows += [labels | {"form": form} | measures for form, measures in measured.items()]

    def write(self, engine: Evaluator) -> None:
        """Write the tables."""
        write_csv(self.folder / "metrics.csv", self.rows)
        write_summary(self.folder / "summary.md", self.rows)
        engine.logger.info(f"{len(self.rows)} rows in {self.folder / 'metrics.csv'}, means in summary.md beside it")


def measure_forms(
    forms: dict[str, Image], normal: Image, window: Sequence[float], uniform_range: Sequence[float]
) -> dict[str, dict[str, float]]:
    """The measures of :data:`METRICS` for each form of one slice; images (H, W), HU."""
    region = uniform_tissue(normal, uniform_range)
    measured = {}
    for form, image in forms.items():
        bias, noise = bias_and_noise(image, normal, region)
        values = psnr(image, normal, window), ssim(image, normal, window), rmse(image, normal, window), bias, noise
        measured[form] = dict(zip(METRICS, values, strict=True))
    return measured
