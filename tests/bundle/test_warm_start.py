"""A warm start: invented noise, and F or H taught by it through the bundle's own command."""

import numpy as np
import pytest
import torch
from torch import nn

from monai_bundle.scripts.data.synthetic_noise import ct_noise
from monai_bundle.scripts.model.batch_instance_norm import BatchInstanceNorm2d, keep_running_statistics
from monai_bundle.scripts.model.denoiser import ISCLDenoiser
from monai_bundle.scripts.model.residual_unet import ResidualUNet
from monai_bundle.scripts.model.window import HUWindow
from monai_bundle.scripts.training.warm_start import PartBatch, load_initial_weights


def test_noise_has_no_mean_and_standard_deviation_one():
    noise = ct_noise((5, 1, 64, 64), np.random.default_rng(0))
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(noise.std((1, 2, 3)), 1, rtol=1e-5)


def test_noise_power_is_highest_at_middle_frequencies():
    noise = ct_noise((200, 1, 64, 64), np.random.default_rng(0))
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean((0, 1))[0, :33]
    peak = int(power.argmax())
    assert 1 < peak < 16
    assert power[1] < power[peak] / 2
    assert power[32] < power[peak] / 2


def test_noise_of_two_patches_differs_and_is_drawn_from_the_random_source_alone():
    one, again = (ct_noise((2, 1, 64, 64), np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one[0] - one[1]).max() > 1


@pytest.mark.parametrize("part", ["f", "h"])
def test_f_is_taught_the_clean_image_and_h_the_noise(part):
    window = HUWindow(-160, 240)
    clean, noisy = torch.full((2, 1, 4, 4), 40.0), torch.full((2, 1, 4, 4), 60.0)
    image, target = PartBatch(part, window)({"image": noisy, "label": clean}, torch.device("cpu"))
    torch.testing.assert_close(window.to_hu(image), noisy)
    expected = clean if part == "f" else (noisy - clean) * 2 / 400 * 200 - 160 + 200  # as if the noise were an image
    torch.testing.assert_close(window.to_hu(target), expected)


def test_g_is_taught_to_enlarge_the_noise_of_a_clean_image():
    window = HUWindow(-160, 240)
    batch = {"image": torch.full((2, 1, 4, 4), 60.0), "label": torch.full((2, 1, 4, 4), 40.0)}
    image, target = PartBatch("g", window)(batch, torch.device("cpu"))
    torch.testing.assert_close(window.to_hu(image), torch.full_like(image, 45.0))
    torch.testing.assert_close(window.to_hu(target), batch["image"])


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="part is 'dx'; there are f, g, h"):
        PartBatch("dx", HUWindow(0, 1))


def test_initial_weights_are_loaded_where_a_file_is_named(tmp_path):
    torch.manual_seed(0)
    source, target, other = (nn.Conv2d(1, 2, 3) for _ in range(3))
    untouched = other.weight.clone()
    torch.save(source.state_dict(), tmp_path / "f.pt")
    load_initial_weights(
        {"initial_f": target, "initial_h": other}, {"initial_f": str(tmp_path / "f.pt"), "initial_h": ""}
    )
    torch.testing.assert_close(target.weight, source.weight)
    torch.testing.assert_close(other.weight, untouched)


def test_initial_weights_that_are_missing_or_do_not_fit_are_refused(tmp_path):
    network = BatchInstanceNorm2d(4)
    with pytest.raises(ValueError, match=r"--initial_f: .*nowhere.pt does not exist"):
        load_initial_weights({"initial_f": network}, {"initial_f": str(tmp_path / "nowhere.pt")})
    torch.save(BatchInstanceNorm2d(2).state_dict(), tmp_path / "small.pt")
    with pytest.raises(ValueError, match=r"small.pt does not fit"):
        load_initial_weights({"initial_f": network}, {"initial_f": str(tmp_path / "small.pt")})


def test_a_part_is_taken_out_of_the_weights_of_the_whole_denoiser(tmp_path):
    torch.manual_seed(0)
    source, f = ISCLDenoiser("full"), ResidualUNet()
    torch.save(source.state_dict(), tmp_path / "model.pt")
    load_initial_weights({"initial_f": f}, {"initial_f": str(tmp_path / "model.pt")})
    torch.testing.assert_close(f.head.weight, source.f.head.weight)


def test_g_begins_by_enlarging_what_f_takes_away():
    torch.manual_seed(0)
    f, g = ResidualUNet().eval(), ResidualUNet().eval()
    for last in (f.tail, f.leave):
        nn.init.normal_(last.weight, std=0.05)
    load_initial_weights({"initial_f": f, "initial_g": g}, {"initial_f": "", "initial_g": "inverse"})
    y = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(g(y) - y, 3 * (y - f(y)), rtol=1e-3, atol=1e-4)
        assert (f(y) - y).abs().max() > 1e-3


def test_the_papers_generator_has_no_inverse():
    with pytest.raises(ValueError, match="--initial_g: 'inverse' needs the residual generator"):
        load_initial_weights({"initial_f": nn.Identity(), "initial_g": nn.Identity()}, {"initial_g": "inverse"})


def test_running_statistics_are_left_out_where_the_network_keeps_none(tmp_path):
    source, target = nn.Sequential(BatchInstanceNorm2d(2)), nn.Sequential(BatchInstanceNorm2d(2))
    keep_running_statistics(source)
    nn.init.constant_(source[0].weight, 3.0)
    torch.save(source.state_dict(), tmp_path / "f.pt")
    load_initial_weights({"initial_g": target}, {"initial_g": str(tmp_path / "f.pt")})
    assert (target[0].weight == 3).all()
