"""The progress bar of a training, with the loss terms."""

from collections.abc import Mapping, Sequence

from ignite.engine import Engine
from ignite.handlers import ProgressBar
from torch import Tensor


class TrainingProgress:
    """Show iteration, time left and the named loss terms.

    Parameters
    ----------
    terms : sequence of str
        Names from the trainer's output; one that is switched off is left out.
    """

    def __init__(self, terms: Sequence[str]) -> None:
        self.terms = tuple(terms)

    def attach(self, engine: Engine) -> None:
        """Draw the bar for ``engine``."""
        ProgressBar(desc="training", mininterval=1.0).attach(engine, output_transform=self._shown)

    def _shown(self, output: Sequence[Mapping[str, Tensor]] | Mapping[str, Tensor]) -> dict[str, float]:
        terms = output if isinstance(output, Mapping) else output[0]  # MONAI's own trainers give a mapping
        return {name: float(terms[name]) for name in self.terms if name in terms}
