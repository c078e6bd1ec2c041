"""One process of a training in several; torchrun starts it: arguments of train.json as JSON, folder for its weights."""

import json
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigWorkflow

from monai_bundle.scripts.training.distributed import average

BUNDLE = Path(__file__).parents[2] / "monai_bundle"


def main(arguments: str, folder: str) -> None:
    """Train, and leave the weights and the first batch of this rank in ``folder``."""
    torch.set_num_threads(1)
    workflow = ConfigWorkflow(
        config_file=[str(BUNDLE / "configs" / name) for name in ("train.json", "multi_gpu_train.json")],
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=False,
        bundle_root=str(BUNDLE),
        **json.loads(arguments),
    )
    workflow.initialize()
    workflow.run()
    trainer = workflow.parser.get_parsed_content("train::trainer")
    left = {
        "weights": [p.detach() for network in trainer.networks for p in network.parameters()],
        "slow": trainer.h_optimizer.slow,
        "output": {str(name): float(value) for name, value in trainer.state.output[0].items()},
        "iteration": trainer.state.iteration,
        "mean": mean_of(float(trainer.state.rank), torch.full((2, 1), 7.0)),
        "batch": torch.from_numpy(trainer.data_loader.dataset[0]["noisy"]),
    }
    rank = trainer.state.rank
    workflow.finalize()
    torch.save(left, Path(folder) / f"rank{rank}.pt")


def mean_of(*values: float | torch.Tensor) -> list[torch.Tensor]:
    """What all ranks have after averaging."""
    tensors = [torch.as_tensor(value) for value in values]
    average(tensors)
    return tensors


if __name__ == "__main__":
    main(*sys.argv[1:])
