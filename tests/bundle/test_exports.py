"""What leaves the bundle in another form is the same network, at every size."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export, verify_net_in_out
from torch import Tensor, nn

BUNDLE = Path(__file__).parents[2] / "monai_bundle"

pytestmark = pytest.mark.filterwarnings(  # PyTorch's own; torch.export does not take every size yet
    "ignore:.*torch.jit:DeprecationWarning",
    "ignore::torch.jit.TracerWarning",
    "ignore:.*TorchScript-based ONNX export:DeprecationWarning",
    "ignore:Constant folding:UserWarning",
    "ignore:No names were found:UserWarning",
)

SIZES = [(1, 64, 64), (3, 70, 61), (2, 1, 1), (1, 5, 130)]
"""Number, height and width: the exported size; others, not multiples of 4; the least; less than any kernel."""

WINDOW_HU = 400
"""Width of the abdomen window."""


@pytest.fixture
def inside_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go into a copy of the configurations and the weights; the code is that of the repository."""
    for name in ("configs", "models"):
        shutil.copytree(BUNDLE / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(BUNDLE))
    return tmp_path


@pytest.fixture
def network(inside_the_bundle: Path) -> nn.Module:
    """The network of inference.json with its weights."""
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    network: nn.Module = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load("models/model.pt", weights_only=True))
    return network.eval()


def assert_same_network(network: nn.Module, exported: Callable[[Tensor], Tensor], tolerance_hu: float) -> None:
    """Compare on soft tissue with noise, part of it outside the window."""
    generator = torch.Generator().manual_seed(0)
    for number, height, width in SIZES:
        image = torch.randn(number, 1, height, width, generator=generator) * 150 + 40
        with torch.no_grad():
            torch.testing.assert_close(exported(image), network(image), rtol=0, atol=tolerance_hu)


def test_network_takes_and_gives_what_the_metadata_say(inside_the_bundle: Path) -> None:
    """With the zoo's own call: the metadata leave the size open, so it tries one pixel."""
    verify_net_in_out("network_def", meta_file="configs/metadata.json", config_file="configs/inference.json")


def test_torchscript(inside_the_bundle: Path, network: nn.Module) -> None:
    ckpt_export(config_file="configs/inference.json")
    extra = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load("models/model.ts", _extra_files=extra)
    assert_same_network(network, exported, tolerance_hu=1e-3)  # the same operations; some are fused
    assert json.loads(extra["metadata.json"])["version"]  # what MONAI Deploy reads
    assert json.loads(extra["inference.json"])["network_def"]


def test_onnx(inside_the_bundle: Path, network: nn.Module) -> None:
    onnx_export(args_file="configs/onnx_export.json")
    session = onnxruntime.InferenceSession("models/model.onnx")
    assert [port.name for port in session.get_inputs()] == ["image"]
    assert [port.name for port in session.get_outputs()] == ["pred"]

    def exported(image: Tensor) -> Tensor:
        (pred,) = session.run(["pred"], {"image": image.numpy()})
        assert pred.dtype == np.float32
        return torch.from_numpy(pred)

    assert_same_network(network, exported, tolerance_hu=1e-3 * WINDOW_HU)  # onnxruntime has kernels of its own
