"""A bundle becomes a denoiser, or is refused with a reason."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import soft_tissue
from monai.networks.blocks.convolutions import Convolution
from small_bundle import write_bundle

from iscl_node.denoise import bundle_denoiser
from iscl_node.denoise.bundle_denoiser import load_bundle
from iscl_node.denoise.bundle_digest import bundle_digest
from iscl_node.domain import ModelIdentity, Precision
from iscl_node.errors import ConfigurationError
from iscl_node.settings import INSTALLED_BUNDLE

HU = (soft_tissue(side=16) - 1024).astype(np.float32)

SHIFT = """
from torch import nn
from .amount import AMOUNT

class Shift(nn.Module):
    def __init__(self, profile, factor=1.0):
        super().__init__()
        self.shift = AMOUNT[profile] * factor

    def forward(self, image):
        return image + self.shift
"""


def shifting_bundle(folder: Path, amount: float, **arguments: object) -> Path:
    """A bundle whose own scripts add ``amount`` HU in profile 'abdomen', twice as much in 'chest'."""
    network_def = {"_target_": "scripts.shift.Shift", "profile": "@profile", **arguments}
    bundle = write_bundle(folder, network_def, profile="abdomen")
    scripts = bundle / "scripts"
    scripts.mkdir()
    (scripts / "__init__.py").touch()
    (scripts / "amount.py").write_text(f"AMOUNT = {{'abdomen': {amount}, 'chest': {2 * amount}}}")
    (scripts / "shift.py").write_text(SHIFT)
    for weights in ("model.pt", "chest.pt"):
        torch.save({}, bundle / "models" / weights)
    return bundle


def test_an_identity_gives_back_what_it_gets(identity_bundle: Path) -> None:
    denoiser = load_bundle(identity_bundle, "abdomen", "cpu")
    denoised = denoiser.denoise(HU)
    np.testing.assert_array_equal(denoised, HU)
    assert denoised.dtype == np.float32
    assert denoiser.model == ModelIdentity("identity", "1.0.0", bundle_digest(identity_bundle))


def test_an_image_of_another_type_and_layout_is_taken(identity_bundle: Path) -> None:
    image = np.asfortranarray(HU.astype(np.float64))[::-1]
    denoised = load_bundle(identity_bundle, "abdomen", "cpu").denoise(image)  # type: ignore[arg-type]
    np.testing.assert_array_equal(denoised, image)


def test_the_trusted_bundle_is_taken_and_another_is_not(identity_bundle: Path) -> None:
    digest = bundle_digest(identity_bundle)
    load_bundle(identity_bundle, "abdomen", "cpu", digest)
    (identity_bundle / "scripts").mkdir()
    (identity_bundle / "scripts" / "added.py").touch()
    with pytest.raises(ConfigurationError, match=rf"the settings trust {digest}"):
        load_bundle(identity_bundle, "abdomen", "cpu", digest)


@pytest.mark.fault(
    "machine", "the bundle is not the one that the settings trust", "an error at the start, and none of its code runs"
)
def test_no_code_of_an_untrusted_bundle_runs(tmp_path: Path) -> None:
    bundle = shifting_bundle(tmp_path / "bundle", 1)
    (bundle / "scripts" / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ConfigurationError, match="the settings trust"):
        load_bundle(bundle, "abdomen", "cpu", "0" * 64)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("configs/inference.json", "configs/metadata.json", "models/model.pt", "models/chest.pt"),
        *("models/added.pt", "scripts/added.py", "scripts/package/added.py", "scripts/library.so"),
    ],
)
def test_what_decides_on_the_result_changes_the_digest(identity_bundle: Path, name: str) -> None:
    before = bundle_digest(identity_bundle)
    path = identity_bundle / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(" ")
    assert bundle_digest(identity_bundle) != before


@pytest.mark.parametrize(
    "name",
    [
        *("docs/README.md", "LICENSE", "configs/train.json", "models/model.ts", "models/model.onnx"),
        *("scripts/__pycache__/a.pyc", "scripts/.cache", "runs/model.pt", "eval/ct.nii", ".cache"),
    ],
)
def test_what_does_not_touch_the_result_keeps_the_digest(identity_bundle: Path, name: str) -> None:
    before = bundle_digest(identity_bundle)
    path = identity_bundle / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert bundle_digest(identity_bundle) == before


def test_a_renamed_file_changes_the_digest(identity_bundle: Path) -> None:
    before = bundle_digest(identity_bundle)
    (identity_bundle / "models" / "chest.pt").rename(identity_bundle / "models" / "head.pt")
    assert bundle_digest(identity_bundle) != before


def test_each_profile_has_its_weights_and_its_network(tmp_path: Path) -> None:
    bundle = shifting_bundle(tmp_path / "bundle", 10)
    np.testing.assert_array_equal(load_bundle(bundle, "abdomen", "cpu").denoise(HU), HU + 10)
    np.testing.assert_array_equal(load_bundle(bundle, "chest", "cpu").denoise(HU), HU + 20)


def test_the_profile_that_the_bundle_names_has_the_first_weights(tmp_path: Path) -> None:
    bundle = shifting_bundle(tmp_path / "bundle", 10)
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    (bundle / "configs" / "inference.json").write_text(json.dumps(config | {"profile": "chest"}))
    (bundle / "models" / "chest.pt").unlink()
    np.testing.assert_array_equal(load_bundle(bundle, "chest", "cpu").denoise(HU), HU + 20)
    with pytest.raises(ConfigurationError, match=r"abdomen\.pt: no weights"):
        load_bundle(bundle, "abdomen", "cpu")


def test_a_bundle_without_profiles_has_one_network_for_all(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", {"_target_": "torch.nn.Identity"})
    torch.save({}, bundle / "models" / "model.pt")
    for profile in ("full", "abdomen", "any"):
        np.testing.assert_array_equal(load_bundle(bundle, profile, "cpu").denoise(HU), HU)


def test_two_bundles_live_side_by_side(tmp_path: Path) -> None:
    small = load_bundle(shifting_bundle(tmp_path / "small", 1), "abdomen", "cpu")
    large = load_bundle(shifting_bundle(tmp_path / "large", 100), "abdomen", "cpu")
    np.testing.assert_array_equal(small.denoise(HU), HU + 1)
    np.testing.assert_array_equal(large.denoise(HU), HU + 100)


@pytest.mark.parametrize("value", ["$__import__('os').getpid()", "%other.json", "@secret", "@nowhere"])
def test_an_argument_that_is_code_or_nothing_is_refused(tmp_path: Path, value: str) -> None:
    bundle = shifting_bundle(tmp_path / "bundle", 1, factor=value)
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    (bundle / "configs" / "inference.json").write_text(json.dumps(config | {"secret": "$1 + 1"}))
    with pytest.raises(ConfigurationError, match="plain arguments"):
        load_bundle(bundle, "abdomen", "cpu")


@pytest.mark.parametrize("weights", [None, b"", b"not weights", "wrong"], ids=["missing", "empty", "foreign", "wrong"])
@pytest.mark.fault(
    "machine", "the weights are missing, empty, foreign or of another network", "an error that names the file"
)
def test_weights_that_do_not_fit_are_refused(identity_bundle: Path, weights: bytes | str | None) -> None:
    path = identity_bundle / "models" / "chest.pt"
    path.unlink()
    if isinstance(weights, bytes):
        path.write_bytes(weights)
    elif weights:
        torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ConfigurationError, match=r"chest\.pt: no weights of this network"):
        load_bundle(identity_bundle, "chest", "cpu")


@pytest.mark.fault("machine", "the weights hold code", "an error, and they are not loaded")
def test_weights_that_hold_code_are_refused(identity_bundle: Path) -> None:
    torch.save({"weight": Path("pickled")}, identity_bundle / "models" / "model.pt")
    with pytest.raises(ConfigurationError, match="no weights of this network"):
        load_bundle(identity_bundle, "full", "cpu")


@pytest.mark.parametrize("target", ["torch.nn.Nothing", "nowhere.Network", "scripts.shift.Shift", "Identity", ""])
def test_a_network_that_cannot_be_built_is_named(tmp_path: Path, target: str) -> None:
    bundle = write_bundle(tmp_path / "bundle", {"_target_": target})
    with pytest.raises(ConfigurationError, match="network_def"):
        load_bundle(bundle, "abdomen", "cpu")


@pytest.mark.parametrize(
    ("target", "argument"),
    [
        ("os.system", "command"),
        ("subprocess.Popen", "args"),
        ("torch.utils.collect_env.run", "command"),
        ("torch.hub.os.system", "command"),
        ("scripts.os.system", "command"),
        ("scripts.touch", "path"),
        ("builtins.open", "file"),
        ("pathlib.Path.touch", "self"),
    ],
)
@pytest.mark.fault(
    "machine",
    "a bundle names as its network what is none, like a function",
    "an error; it is not called",
)
def test_what_is_no_network_is_not_called(tmp_path: Path, target: str, argument: str) -> None:
    ran = tmp_path / "ran"
    value = str(ran) if argument in ("path", "file") else f"touch {ran}"
    bundle = write_bundle(tmp_path / "bundle", {"_target_": target, argument: value})
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").write_text("import os\n\ndef touch(path):\n    open(path, 'w')\n")
    with pytest.raises(ConfigurationError, match="network_def"):
        load_bundle(bundle, "abdomen", "cpu")
    assert not ran.exists()


def test_a_network_of_monai_is_taken(tmp_path: Path) -> None:
    definition = {"_target_": "monai.networks.blocks.Convolution", "spatial_dims": 2, "in_channels": 1}
    bundle = write_bundle(tmp_path / "bundle", definition | {"out_channels": 1})
    torch.save(Convolution(2, 1, 1).state_dict(), bundle / "models" / "model.pt")
    assert load_bundle(bundle, "full", "cpu").denoise(HU).shape == HU.shape


def test_a_folder_without_a_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no bundle"):
        load_bundle(tmp_path, "abdomen", "cpu")


def test_a_config_that_is_no_json_is_named(identity_bundle: Path) -> None:
    (identity_bundle / "configs" / "metadata.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"metadata\.json"):
        load_bundle(identity_bundle, "abdomen", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.fault(
    "machine", "the settings ask for a CUDA device that is not there", "an error that says what to change"
)
def test_a_missing_cuda_device_is_named(identity_bundle: Path) -> None:
    with pytest.raises(ConfigurationError, match="'auto' takes the CPU"):
        load_bundle(identity_bundle, "abdomen", "cuda")


@pytest.mark.parametrize("profile", ["abdomen", "chest"])
def test_the_installed_bundle_denoises(profile: str) -> None:
    denoiser = load_bundle(INSTALLED_BUNDLE, profile, "cpu")
    denoised = denoiser.denoise(HU)
    assert denoised.shape == HU.shape
    assert np.isfinite(denoised).all()
    outside = HU < -1000  # below every window: comes out as it went in
    np.testing.assert_array_equal(denoised[outside], HU[outside])
    assert not np.array_equal(denoised, HU)


@pytest.mark.parametrize(
    ("profile", "window_hu"), [("full", (-1024, 3071)), ("abdomen", (-160, 240)), ("chest", (-400, 1000))]
)
def test_the_window_is_the_network_s(profile: str, window_hu: tuple[float, float]) -> None:
    assert load_bundle(INSTALLED_BUNDLE, profile, "cpu").window_hu == window_hu


@pytest.mark.parametrize("profile", ["abdomen", "chest"])
def test_folded_and_in_channels_last_the_installed_bundle_computes_the_same(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = (soft_tissue(side=64) - 1024).astype(np.float32)
    fast = load_bundle(INSTALLED_BUNDLE, profile, "cpu").denoise(image)
    monkeypatch.setattr(bundle_denoiser, "_prepare", lambda _network: None)
    np.testing.assert_allclose(fast, load_bundle(INSTALLED_BUNDLE, profile, "cpu").denoise(image), rtol=0, atol=1e-3)


PRECISE = """
import torch
from torch import nn

class Precise(nn.Conv2d):
    def __init__(self, is_enough):
        super().__init__(1, 1, 3, padding=1, padding_mode="replicate")
        self.is_enough = is_enough

    def bfloat16_is_enough(self):
        return self.is_enough
"""


@pytest.mark.parametrize(
    ("precision", "is_native", "is_enough", "is_coarse"),
    [
        ("float32", True, True, False),
        ("bfloat16", False, False, True),
        ("auto", True, True, True),
        ("auto", True, False, False),
        ("auto", False, True, False),
    ],
)
def test_convolutions_are_coarse_if_asked_or_if_it_is_as_good_and_faster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Precision,
    is_native: bool,
    is_enough: bool,
    is_coarse: bool,
) -> None:
    bundle = write_bundle(tmp_path / "bundle", {"_target_": "scripts.precise.Precise", "is_enough": is_enough})
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").touch()
    (bundle / "scripts" / "precise.py").write_text(PRECISE)
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate")
    torch.save(convolution.state_dict(), bundle / "models" / "model.pt")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": is_native})
    denoised = load_bundle(bundle, "full", "cpu", precision=precision).denoise(HU)
    exact = convolution(torch.from_numpy(HU)[None, None])[0, 0].detach().numpy()
    assert denoised.dtype == np.float32
    assert bool(np.abs(denoised - exact).max() > 0.01) is is_coarse


def test_bfloat16_is_enough_for_the_installed_bundle() -> None:
    """A stored value is rounded by 0.29 HU (RMS) as it is."""
    image = (soft_tissue(side=64) - 1024).astype(np.float32)
    exact, coarse = (
        load_bundle(INSTALLED_BUNDLE, "full", "cpu", precision=precision).denoise(image)
        for precision in ("float32", "bfloat16")
    )
    tissue = image > -500
    assert 0 < np.sqrt(np.mean((coarse - exact)[tissue] ** 2)) < 0.2
    assert np.abs(coarse - exact).max() < 3
    assert coarse[tissue].std() < 0.7 * image[tissue].std()


def test_a_network_without_a_window_looks_at_every_value(identity_bundle: Path) -> None:
    assert load_bundle(identity_bundle, "abdomen", "cpu").window_hu == (-math.inf, math.inf)
