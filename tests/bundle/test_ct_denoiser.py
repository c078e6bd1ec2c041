"""The bundle's ``network_def``: HU in, HU out."""

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from monai_bundle.scripts.model.denoiser import ISCLDenoiser
from monai_bundle.scripts.model.networks import Generator
from monai_bundle.scripts.model.residual_unet import ResidualUNet
from monai_bundle.scripts.model.window import PROFILES, HUWindow

BUNDLE = Path(__file__).parents[2] / "monai_bundle"


@pytest.fixture(scope="module")
def denoiser() -> ISCLDenoiser:
    torch.manual_seed(0)
    return ISCLDenoiser().eval()


def ct(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)) * 300


@pytest.mark.parametrize("profile", ["abdomen", "chest", "em"])
def test_window_maps_its_ends_to_one(profile: str) -> None:
    window = HUWindow.of_profile(profile)
    low, high = PROFILES[profile]
    assert window.to_unit(torch.tensor([low - 1, low, (low + high) / 2, high, high + 1])).tolist() == [-1, -1, 0, 1, 1]
    assert window.to_hu(torch.tensor([-1.0, 0, 1])).tolist() == [low, (low + high) / 2, high]


def test_unknown_profile_is_named() -> None:
    with pytest.raises(ValueError, match="'head' is unknown; there are full, abdomen, chest"):
        ISCLDenoiser(profile="head")


@pytest.mark.parametrize("config", ["train.json", "inference.json"])
@pytest.mark.parametrize("profile", PROFILES)
def test_configs_build_the_network_of_every_profile(config: str, profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / config))
    parser.update({"profile": profile})
    network = parser.get_parsed_content("network_def")
    assert (network.window.low, network.window.high) == PROFILES[profile]
    assert (network.noise_prior is None) == (profile == "em")  # charging and film change the mean, noise of CT does not


def test_output_is_equation_13_within_the_window() -> None:
    torch.manual_seed(0)
    denoiser = ISCLDenoiser(gamma=0.3, noise_prior=False).eval()
    image = ct(1, 1, 8, 12)
    with torch.no_grad():
        x = (image.clip(-160, 240) - 40) / 200
        blend = (0.3 * denoiser.f(x) + 0.7 * (x - denoiser.h(x))).clip(-1, 1) * 200 + 40
        result = denoiser(image)
    inside = (image >= -160) & (image <= 240)
    assert inside.any()
    assert not inside.all()
    torch.testing.assert_close(result[inside], blend[inside], rtol=0, atol=1e-2)  # H amplifies the rounding of x
    assert torch.equal(result[~inside], image[~inside])
    assert ((result >= -160) & (result <= 240))[inside].all()


def test_shift_of_the_networks_is_no_noise(denoiser: ISCLDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ct(1, 1, 40, 40) / 10  # all inside the window, as is the shifted image
    monkeypatch.setattr(denoiser, "ensemble", lambda x: x + 0.1)
    torch.testing.assert_close(denoiser(image), image, rtol=0, atol=1e-3)


def test_noise_of_electron_microscopy_may_have_a_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    image = ct(1, 1, 40, 40).abs() / 10 + 100
    denoiser = ISCLDenoiser("em")
    monkeypatch.setattr(denoiser, "ensemble", lambda x: x + 0.1)
    torch.testing.assert_close(denoiser(image), image + 0.1 * 255 / 2, rtol=0, atol=1e-3)


def finds_noise(denoiser: ISCLDenoiser) -> ISCLDenoiser:
    """One whose residual F is not the identity that it is without training."""
    nn.init.normal_(denoiser.f.tail.weight, std=0.05)
    return denoiser.eval()


@pytest.mark.parametrize(("profile", "generator", "gamma"), [("full", "residual", 1.0), ("abdomen", "paper", 0.5)])
def test_profile_decides_on_the_generator_where_nothing_else_is_said(
    profile: str, generator: str, gamma: float
) -> None:
    denoiser = ISCLDenoiser(profile)
    assert (denoiser.generator, denoiser.gamma) == (generator, gamma)
    assert isinstance(denoiser.f, Generator if generator == "paper" else ResidualUNet)


@pytest.mark.parametrize(("gamma", "runs"), [(1.0, ["f"]), (0.5, ["f", "h"]), (0.0, ["h"])])
def test_a_network_without_weight_is_not_run(gamma: float, runs: list[str]) -> None:
    denoiser, ran = ISCLDenoiser(gamma=gamma, generator="residual").eval(), []
    for name in ("f", "h"):
        getattr(denoiser, name).register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        denoiser(ct(1, 1, 16, 16))
    assert ran == runs


def test_residual_generator_is_blended_by_equation_13() -> None:
    torch.manual_seed(0)
    denoiser = finds_noise(ISCLDenoiser(gamma=0.3, generator="residual", noise_prior=False))
    image = ct(1, 1, 21, 30) / 4 + 40  # inside the window
    with torch.no_grad():
        x = (image.clip(-160, 240) - 40) / 200
        blend = (0.3 * denoiser.f(x) + 0.7 * (x - denoiser.h(x))).clip(-1, 1) * 200 + 40
        result = denoiser(image)
    inside = (image >= -160) & (image <= 240)
    torch.testing.assert_close(result[inside], blend[inside], rtol=0, atol=1e-2)


def test_weights_without_an_extractor_are_enough_for_f_alone() -> None:
    torch.manual_seed(0)
    whole, alone = finds_noise(ISCLDenoiser("full")), ISCLDenoiser("full").eval()
    alone.load_state_dict({key: value for key, value in whole.state_dict().items() if key.startswith("f.")})
    image = ct(1, 1, 21, 30)
    with torch.no_grad():
        assert torch.equal(alone(image), whole(image))
        assert torch.equal(torch.jit.script(alone)(image), whole(image))
    assert alone.h is None
    with pytest.raises(ValueError, match="no H"):
        alone.second_estimate(image)
    blended = ISCLDenoiser("full", gamma=0.5)
    with pytest.raises(RuntimeError, match=r"h\.0\.weight"):
        blended.load_state_dict(alone.state_dict())


def test_residual_generator_sees_soft_tissue_of_the_whole_range_as_in_the_abdomens_window() -> None:
    full, abdomen = (ISCLDenoiser(profile, generator="residual") for profile in ("full", "abdomen"))
    image = torch.tensor([-150.0, 40.0, 230.0])
    seen = [each.window.to_unit(image) * each.f.scale + each.f.shift for each in (full, abdomen)]
    torch.testing.assert_close(*seen, rtol=0, atol=1e-5)


def test_profile_full_leaves_no_pixel_out() -> None:
    torch.manual_seed(0)
    denoiser = finds_noise(ISCLDenoiser("full", noise_prior=False))
    image = torch.linspace(-1000, 3000, 64 * 64).reshape(1, 1, 64, 64)
    with torch.no_grad():
        assert (denoiser(image) != image).all()


def test_bfloat16_is_for_the_residual_generator_and_gives_nearly_the_same() -> None:
    torch.manual_seed(0)
    exact, coarse = finds_noise(ISCLDenoiser("full")), ISCLDenoiser("full", precision="bfloat16").eval()
    coarse.load_state_dict(exact.state_dict())
    image = ct(1, 1, 40, 40) / 4
    with torch.no_grad():
        removed, difference = image - exact(image), coarse(image) - exact(image)
    assert 0 < difference.std() < 0.02 * removed.std()
    with pytest.raises(ValueError, match="'bfloat16' needs the residual generator"):
        ISCLDenoiser("abdomen", precision="bfloat16")


def test_unknown_choice_is_named() -> None:
    with pytest.raises(ValueError, match="'unet'; there are paper, residual"):
        ISCLDenoiser(generator="unet")
    with pytest.raises(ValueError, match="'int8'; there are float32, bfloat16"):
        ISCLDenoiser(precision="int8")


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (64, 63), (66, 65)])
def test_any_size(denoiser: ISCLDenoiser, size: tuple[int, int]) -> None:
    with torch.no_grad():
        result = denoiser(ct(1, 1, *size))
    assert result.shape == (1, 1, *size)
    assert result.dtype == torch.float32
    assert torch.isfinite(result).all()


def test_image_does_not_depend_on_its_neighbours(denoiser: ISCLDenoiser) -> None:
    images = ct(3, 1, 21, 20)
    with torch.no_grad():
        together = denoiser(images)
        alone = torch.cat([denoiser(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-2)  # convolutions of other batch sizes round otherwise


def test_torchscript_gives_the_same_for_another_size(denoiser: ISCLDenoiser) -> None:
    scripted = torch.jit.script(denoiser)
    with torch.no_grad():
        for image in (ct(1, 1, 16, 16), ct(2, 1, 9, 14)):
            torch.testing.assert_close(scripted(image), denoiser(image), rtol=0, atol=1e-3)


def test_weights_decide_on_running_statistics() -> None:
    with_statistics, without = ISCLDenoiser(running_statistics=True).eval(), ISCLDenoiser().eval()
    for source, target in ((with_statistics, ISCLDenoiser()), (without, ISCLDenoiser(running_statistics=True))):
        target.load_state_dict(source.state_dict())
        image = torch.rand(1, 1, 8, 8) * 400 - 160
        torch.testing.assert_close(target.eval()(image), source(image), rtol=0, atol=0)
