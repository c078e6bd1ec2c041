"""A warm start: how it begins, what is learned from, and with what losses."""

import pytest
import torch
from torch import nn

from monai_bundle.scripts.model.batch_instance_norm import BatchInstanceNorm2d, keep_running_statistics
from monai_bundle.scripts.model.denoiser import ISCLDenoiser
from monai_bundle.scripts.model.residual_unet import ResidualUNet
from monai_bundle.scripts.model.window import HUWindow
from monai_bundle.scripts.training.averaging import Forgetting
from monai_bundle.scripts.training.schedule import Budget, CosineSchedule
from monai_bundle.scripts.training.warm_start import calibrate, load_initial_weights
from monai_bundle.scripts.training.warm_start_trainer import WarmStartTrainer, relative_loss


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


class Answer(nn.Module):
    """A network that gives its one weight, whatever it sees."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.seen = nn.Parameter(torch.tensor(value)), []

    def forward(self, x):
        self.seen.append(x)
        return torch.zeros_like(x) + self.value


def trainer(part, answer, **options):
    network = Answer(answer)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    window = HUWindow.of_profile("abdomen")
    return WarmStartTrainer(
        network, optimizer, part, window, device="cpu", max_epochs=1, data_loader=[0], epoch_length=1, **options
    )


def batch(*values):
    return [torch.full((2, 1, 8, 8), value) for value in values]


@pytest.mark.parametrize(
    ("part", "answer"),
    [("f", 0.0), ("h", 0.1)],  # F: the clean image, 40 HU, is 0 in [-1, 1]; H: the noise, 20 HU, is 0.1
)
def test_f_is_taught_the_clean_image_and_h_the_noise(part, answer):
    noisy, clean, target = batch(60.0, 40.0, 20.0)
    terms = trainer(part, answer).step(noisy, clean, target, torch.full((2,), 20.0))
    assert terms["loss"].item() == pytest.approx(0, abs=1e-6)
    assert trainer(part, answer + 0.1).step(noisy, clean, target, torch.full((2,), 20.0))["loss"] > 0.5


def test_g_is_taught_to_enlarge_the_noise_of_a_clean_image():
    noisy, clean, target = batch(60.0, 40.0, 20.0)
    teacher = trainer("g", 0.1)  # 60 HU
    assert teacher.step(noisy, clean, target, torch.full((2,), 20.0))["loss"].item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(teacher.window.to_hu(teacher.network.seen[0]), torch.full_like(noisy, 45.0))


def test_what_ellipses_change_in_the_answer_is_an_error():
    noisy, clean, target = batch(60.0, 40.0, 20.0)
    noisy[1] += 10
    clean[1] += 10  # the twin: the same noise; F gives 40 HU for both and takes the ellipse away
    level = torch.full((2,), 20.0)
    terms = trainer("f", 0.0, twins=1, invariance=2.0).step(noisy, clean, target, level)
    torch.testing.assert_close(terms["loss"], terms["noise"] + 2 * terms["change"])
    assert terms["change"].item() == pytest.approx((0.4**2 + 0.1**2) ** 0.5 - 0.1 + (0.4**2 + 0.05**2) ** 0.5 - 0.05)


def test_what_two_draws_have_wrong_in_common_is_a_bias_and_noise_that_is_left_is_none():
    level, (clean,) = torch.full((2,), 20.0), batch(40.0)  # F gives 40 HU, whatever it sees
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.cat([noise, -noise])  # nothing in common
    apart = trainer("f", 0.0, draws=1, unbiased=3.0).step(clean + noise, clean, torch.zeros_like(noise), level)
    assert apart["bias"].item() == pytest.approx(-(noise[0] ** 2).mean().item() / 25**2, rel=1e-3)
    together = trainer("f", 0.0, draws=1, unbiased=3.0).step(clean + 5, clean, torch.zeros_like(noise), level)
    assert together["bias"].item() == pytest.approx((5 / 25) ** 2, rel=1e-3)
    torch.testing.assert_close(together["loss"], together["noise"] + 3 * together["bias"])


def test_twins_stand_before_the_patches_in_two_draws():
    noisy, clean, target = (torch.cat([each, each]) for each in batch(60.0, 40.0, 20.0))
    noisy[1] += 10
    clean[1] += 10
    terms = trainer("f", 0.0, twins=1, draws=1).step(noisy, clean, target, torch.full((4,), 20.0))
    assert terms["change"] > 0.5
    assert terms["bias"].item() == pytest.approx(0, abs=1e-9)


def test_loss_is_relative_to_the_noise_of_the_patch():
    error, weight = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.ones(2, 1, 8, 8)
    small = relative_loss(error * 10, torch.tensor([5.0, 5.0]), weight, {4: 0.5})
    torch.testing.assert_close(relative_loss(error * 40, torch.tensor([35.0, 35.0]), weight, {4: 0.5}), small)


def test_means_of_larger_squares_count_what_is_coarse_alone():
    level, weight = torch.full((1,), 5.0), torch.ones(1, 1, 16, 16)
    fine = 10.0 * (-1.0) ** torch.arange(16).repeat(1, 1, 16, 1)
    flat = torch.full_like(fine, 10.0)
    coarse = {
        name: relative_loss(error, level, weight, {8: 1.0}) - relative_loss(error, level, weight, {})
        for name, error in (("fine", fine), ("flat", flat))
    }
    assert coarse["fine"].item() == pytest.approx(0, abs=1e-6)
    assert coarse["flat"].item() == pytest.approx((1 + 0.025**2) ** 0.5 - 0.025, rel=1e-4)


def test_choices_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="part is 'dx'; there are f, g, h"):
        trainer("dx", 0.0)
    with pytest.raises(ValueError, match="--amp fp16 is not for the warm start"):
        trainer("f", 0.0, amp="fp16")


def test_calibration_normalizes_every_layer_for_the_batch():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), BatchInstanceNorm2d(3), nn.Conv2d(3, 3, 3), BatchInstanceNorm2d(3))
    keep_running_statistics(network)
    images = torch.randn(8, 1, 16, 16) * 5 + 2
    calibrate(network, images)
    result = network.eval()(images)
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(result.std((0, 2, 3)), torch.ones(3), rtol=0, atol=1e-2)


def test_budget_of_time_counts_its_clock_and_ends_the_run(monkeypatch):
    now_s = iter([100.0, 130.0, 190.0, 220.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now_s))
    budget, ended = Budget(10, minutes=1.5, clock="wall"), []
    engine = type("Engine", (), {"terminate": lambda _: ended.append(True)})()
    budget.now = lambda: next(now_s)
    budget.counted_s = 100.0
    for share, is_over in ((1 / 3, []), (1.0, [True])):
        budget.count(engine)
        assert budget.share == pytest.approx(share)
        assert ended == is_over
    again = Budget(10, minutes=1.5, clock="wall")
    again.load_state_dict(budget.state_dict())
    assert again.share == 1.0


def test_rate_rises_and_then_follows_half_a_cosine():
    optimizer, budget = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0), Budget(100)
    schedule, rates = CosineSchedule(optimizer, budget, final_ratio=0.1, rise=10), []
    for _ in range(101):
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
        budget.done += 1
    assert rates[0] == pytest.approx(0.2, rel=1e-3)
    assert rates[50] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert rates[100] == pytest.approx(0.2)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_average_forgets_its_first_weights():
    average, forget = [torch.zeros(1)], Forgetting(0.9)
    for count in range(100):
        forget(average, [torch.ones(1)], count)
    assert average[0].item() == pytest.approx(1, abs=1e-3)
    early = [torch.zeros(1)]
    forget(early, [torch.ones(1)], 1)
    assert early[0].item() == pytest.approx(1 - 2 / 11)
