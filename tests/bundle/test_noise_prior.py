"""What may be removed from an image as noise."""

import pytest
import torch
from torch import Tensor

from monai_bundle.scripts.model.noise_prior import NoisePrior, local_mean


def white(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def everywhere(noise: Tensor) -> Tensor:
    return torch.ones_like(noise, dtype=torch.bool)


def test_local_mean_is_that_of_the_weighted_pixels() -> None:
    x, weight = white(1, 1, 9, 11), (white(1, 1, 9, 11) > 0).float()
    square, weights = x[0, 0, 2:7, 3:8], weight[0, 0, 2:7, 3:8]
    expected = (square * weights).sum() / weights.sum()
    torch.testing.assert_close(local_mean(x, weight, 5)[0, 0, 4, 5], expected)


def test_constant_is_given_back() -> None:
    noise = torch.full((1, 1, 40, 40), 7.0)
    torch.testing.assert_close(NoisePrior()(noise, everywhere(noise)), torch.zeros_like(noise), rtol=0, atol=1e-5)


def test_pixels_outside_the_window_do_not_count_and_stay() -> None:
    noise = torch.full((1, 1, 40, 40), 7.0)
    noise[..., 20:] = 500.0
    inside = everywhere(noise)
    inside[..., 20:] = False
    torch.testing.assert_close(NoisePrior()(noise, inside), torch.zeros_like(noise), rtol=0, atol=1e-5)


def test_structure_is_scaled_down_to_the_level_of_the_noise_where_the_level_rule_is_on() -> None:
    noise = white(1, 1, 120, 120)
    noise[..., 60] += 60.0
    kept = NoisePrior(level_pixels=5)(noise, everywhere(noise))
    assert noise[..., 60].abs().mean() > 50
    assert kept[..., 60].abs().mean() < 10


def test_noise_that_is_stronger_in_the_middle_is_noise() -> None:
    noise = white(1, 1, 256, 256)
    noise[..., 96:160, 96:160] *= 3
    kept = NoisePrior()(noise, everywhere(noise))[..., 104:152, 104:152]
    assert (kept.std() / noise[..., 104:152, 104:152].std()).item() == pytest.approx(1, abs=0.01)


def test_noise_of_one_level_is_mostly_kept_by_the_level_rule() -> None:
    """White noise loses the mean of a square of 15 pixels, 1/225 of its power, and what sticks out of the mean level:
    the local standard deviation of 25 samples varies by 1/sqrt(2 * 25) = 14 %, half of which is cut, on average
    0.4 * 14 % = 6 % of the amplitude.
    """
    noise = white(1, 1, 256, 256)
    kept = NoisePrior(level_pixels=5)(noise, everywhere(noise))
    assert (kept * noise).mean().item() == pytest.approx(0.94, abs=0.03)


def test_empty_window_gives_nothing() -> None:
    noise = white(1, 1, 20, 20)
    assert torch.equal(NoisePrior()(noise, ~everywhere(noise)), torch.zeros_like(noise))


@pytest.mark.parametrize("level_pixels", [0, 5])
def test_images_of_a_batch_are_apart(level_pixels: int) -> None:
    noise, prior = white(2, 1, 32, 32) * torch.tensor([1.0, 30.0])[:, None, None, None], NoisePrior(15, level_pixels)
    together = prior(noise, everywhere(noise))
    alone = torch.cat([prior(each[None], everywhere(each[None])) for each in noise])
    torch.testing.assert_close(together, alone)


def test_more_of_coarse_noise_makes_what_is_taken_coarser_at_the_level_it_had() -> None:
    # The noise of a soft kernel, 0.3/mm in pixels of 0.7 mm.
    frequency = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.fftfreq(128))
    shape = frequency * torch.exp(-((frequency / 0.2) ** 2))
    noise = torch.fft.ifft2(torch.fft.fft2(white(1, 1, 128, 128)) * shape).real
    plain, coarse = (NoisePrior(coarse=share)(noise, everywhere(noise)) for share in (0.0, 0.8))
    power = [torch.fft.fft2(each).abs()[0, 0] ** 2 for each in (plain, coarse)]
    before, after = (float((each * frequency).sum() / each.sum()) for each in power)
    assert after < 0.95 * before
    assert float(coarse.std() / plain.std()) == pytest.approx(1.05, abs=0.1)
    slow, fast = frequency < 0.1, frequency > 0.3
    assert float(power[1][slow].sum() / power[0][slow].sum()) > 1.5
    assert float(power[1][fast].sum() / power[0][fast].sum()) == pytest.approx(1 / 1.0776**2, abs=0.05)


def test_more_of_coarse_noise_leaves_no_mean_in_wide_regions() -> None:
    noise = white(1, 1, 64, 64) + 5
    kept = NoisePrior(coarse=0.8)(noise, everywhere(noise))
    assert abs(float(kept.mean())) < 0.1
