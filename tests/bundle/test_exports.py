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
    "ignore:ONNX export mode is set to:UserWarning",
    "ignore:The feature will be removed:DeprecationWarning",
    "ignore:No names were found:UserWarning",
)

SIZES = [(1, 64, 64), (3, 70, 61), (2, 1, 1), (1, 5, 130)]
"""Number, height and width: the exported size; others, not multiples of 4; the least; less than any kernel."""

WINDOW_HU = 400
"""Width of the abdomen window."""


@pytest.fixture(params=[".", "monai_bundle"], ids=["inside the bundle", "from the repository"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the bundle is, seen from where the commands run: a copy of the configurations and the weights.

    The code is found as with ``PYTHONPATH=monai_bundle``, which ``python -m`` has by itself inside the bundle.
    """
    folder: str = request.param
    for name in ("configs", "models"):
        shutil.copytree(BUNDLE / name, tmp_path / folder / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(BUNDLE))
    return folder


@pytest.fixture(params=["paper", "residual"])
def weights(bundle: str, request: pytest.FixtureRequest) -> str:
    """The file of the weights: the shipped ones of the paper's generator, or random ones of the other."""
    path = Path(bundle, "models", "weights.pt")
    if request.param == "paper":
        change(Path(bundle, "configs", "inference.json"), {"profile": "abdomen"})
        return f"{bundle}/models/abdomen.pt"
    change(Path(bundle, "configs", "inference.json"), {"profile": "full", "generator": "residual"})
    torch.manual_seed(0)
    denoiser = network_of(bundle)
    nn.init.normal_(denoiser.f.tail.weight, std=0.05)
    torch.save(denoiser.state_dict(), path)
    return str(path)


def change(config: Path, values: dict[str, object]) -> None:
    """Other values in a configuration."""
    config.write_text(json.dumps(json.loads(config.read_text()) | values))


def network_of(bundle: str) -> nn.Module:
    """The network of inference.json with random weights."""
    parser = ConfigParser()
    parser.read_config(f"{bundle}/configs/inference.json")
    network: nn.Module = parser.get_parsed_content("network_def")
    return network


@pytest.fixture
def files(bundle: str) -> dict[str, str]:
    """The arguments that the three commands share."""
    return {"meta_file": f"{bundle}/configs/metadata.json", "config_file": f"{bundle}/configs/inference.json"}


@pytest.fixture
def network(bundle: str, weights: str) -> nn.Module:
    """The network of inference.json with its weights."""
    network = network_of(bundle)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def assert_same_network(network: nn.Module, exported: Callable[[Tensor], Tensor], tolerance_hu: float) -> None:
    """Compare on soft tissue with noise, part of it outside the window."""
    generator = torch.Generator().manual_seed(0)
    for number, height, width in SIZES:
        image = torch.randn(number, 1, height, width, generator=generator) * 150 + 40
        with torch.no_grad():
            torch.testing.assert_close(exported(image), network(image), rtol=0, atol=tolerance_hu)


def test_network_takes_and_gives_what_the_metadata_say(files: dict[str, str]) -> None:
    """With the zoo's own call: the metadata leave the size open, so it tries one pixel."""
    verify_net_in_out("network_def", **files)


def test_torchscript(bundle: str, files: dict[str, str], weights: str, network: nn.Module) -> None:
    filepath = f"{bundle}/models/model.ts"
    ckpt_export("network_def", ckpt_file=weights, filepath=filepath, **files)
    extra = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load(filepath, _extra_files=extra)
    assert_same_network(network, exported, tolerance_hu=1e-3)  # the same operations; some are fused
    assert json.loads(extra["metadata.json"])["version"]  # what MONAI Deploy reads
    assert json.loads(extra["inference.json"])["network_def"]


def test_onnx(bundle: str, files: dict[str, str], weights: str, network: nn.Module) -> None:
    if bundle == ".":
        change(Path("configs/onnx_export.json"), {"ckpt_file": weights})
    from_elsewhere = files | {"ckpt_file": weights, "filepath": f"{bundle}/models/model.onnx"}
    arguments = {} if bundle == "." else from_elsewhere
    onnx_export(args_file=f"{bundle}/configs/onnx_export.json", **arguments)
    session = onnxruntime.InferenceSession(f"{bundle}/models/model.onnx")
    assert [port.name for port in session.get_inputs()] == ["image"]
    assert [port.name for port in session.get_outputs()] == ["pred"]

    def exported(image: Tensor) -> Tensor:
        (pred,) = session.run(["pred"], {"image": image.numpy()})
        assert pred.dtype == np.float32
        return torch.from_numpy(pred)

    assert_same_network(network, exported, tolerance_hu=1e-3 * WINDOW_HU)  # onnxruntime has kernels of its own
