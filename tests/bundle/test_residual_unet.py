"""The residual U-Net, and the companded window that it sees the whole HU range through."""

import pytest
import torch
from torch import nn

from monai_bundle.scripts.model.residual_unet import ResidualUNet, compute_in_bfloat16
from monai_bundle.scripts.model.window import HUWindow

WINDOW = HUWindow.of_profile("full")


@pytest.fixture(scope="module")
def network() -> ResidualUNet:
    torch.manual_seed(0)
    return busy(ResidualUNet()).eval()


def busy(network: ResidualUNet) -> ResidualUNet:
    """One that finds noise, as a trained one does."""
    for last in (network.tail, network.leave):
        nn.init.normal_(last.weight, std=0.05)
    return network


def test_untrained_one_changes_nothing() -> None:
    x = torch.rand(1, 1, 32, 32)
    assert torch.equal(ResidualUNet()(x), x)


def test_scale_is_that_of_the_weights(network: ResidualUNet) -> None:
    other = busy(ResidualUNet(scale=4.0, shift=0.5))
    other.load_state_dict(network.state_dict())
    x = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(other(x), network(x))
        other.scale.fill_(4.0)
        other.shift.fill_(0.5)
        torch.testing.assert_close(other.noise(x) * 4, network.noise(x * 4 + 0.5), rtol=0, atol=1e-5)


def test_parameters() -> None:
    assert sum(each.numel() for each in ResidualUNet().parameters()) == 1_483_397


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (37, 50)])
def test_any_size(network: ResidualUNet, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert network(torch.zeros(2, 1, *size)).shape == (2, 1, *size)


def test_torchscript_gives_the_same(network: ResidualUNet) -> None:
    x = torch.rand(1, 1, 20, 30)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(x), network(x), rtol=0, atol=1e-5)


def test_bfloat16_rounds_the_noise_not_the_image() -> None:
    torch.manual_seed(0)
    network = busy(ResidualUNet()).eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        exact = network.noise(x)
        rounded = compute_in_bfloat16(network).noise(x)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.03 * exact.abs().max()


def test_companded_window_loses_nothing_and_has_no_kink() -> None:
    hu = torch.arange(-1024.0, 3072.0)
    unit = WINDOW.to_unit(hu)
    torch.testing.assert_close(unit[[0, -1]], torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(WINDOW.to_hu(unit), hu, rtol=0, atol=0.01)
    slope = unit.diff() / unit.diff().max()
    torch.testing.assert_close(slope, WINDOW.slope(hu[:-1] + 0.5), rtol=0, atol=2e-3)
    assert slope.diff().abs().max() < 0.005
    assert (slope > 0.12).all()


def test_companded_window_clips_what_is_beyond_twelve_bits() -> None:
    assert WINDOW.to_unit(torch.tensor([-3024.0, 5000.0])).tolist() == pytest.approx([-1, 1], abs=1e-6)
