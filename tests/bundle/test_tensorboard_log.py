"""What a training writes for TensorBoard, read back with TensorBoard's own reader."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import TinyTraining

from monai_bundle.scripts.training.tensorboard_log import STRIP_TAG, TensorBoardLog, gate_statistics, strip

SAMPLE = np.random.default_rng(0).uniform(-300, 300, (12, 18)).astype(np.float32)


def logged(training: TinyTraining, folder: Path) -> TinyTraining:
    """Attach a log of every 2nd iteration with a strip every 3rd, and checkpoints every 4th."""
    log = TensorBoardLog(str(folder), training.denoiser, [SAMPLE + 1000, SAMPLE, SAMPLE - 1000], 2, 3)
    log.attach(training.trainer)
    return training.with_checkpoints(str(folder), 4)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def steps(events: EventAccumulator, tag: str) -> list[int]:
    return [event.step for event in events.Scalars(tag)]


def test_every_term_rate_and_gate_has_a_curve(tmp_path: Path) -> None:
    training = logged(TinyTraining(6), tmp_path)
    training.trainer.run()
    events = read(tmp_path)
    tags = set(events.Tags()["scalars"])
    assert tags == (
        {f"loss/{name}" for name in training.trainer.state.output[0]}
        | {f"learning_rate/{name}" for name in ("generators", "discriminators", "extractor")}
        | {f"gates_{name}/{value}" for name in ("F", "G", "H", "DX", "DY") for value in ("mean", "min", "max")}
    )
    assert all(steps(events, tag) == [2, 4, 6] for tag in tags)
    last = events.Scalars("loss/cycle")[-1].value
    assert last == pytest.approx(float(training.trainer.state.output[0]["cycle"]), rel=1e-6)  # float32 in the file


def test_learning_rate_is_that_of_the_iteration(tmp_path: Path) -> None:
    """It falls by a line from 0.01 to 0.0001 over 6 iterations; iteration 2 is the second step of it."""
    logged(TinyTraining(6), tmp_path).trainer.run()
    rate = read(tmp_path).Scalars("learning_rate/extractor")[0].value
    assert rate == pytest.approx(0.01 - (0.01 - 0.0001) / 6, rel=1e-6)


def test_resumed_curves_have_one_value_per_iteration(tmp_path: Path) -> None:
    """The first run is cut at iteration 7, the last checkpoint is of 4: iteration 6 comes twice."""
    first = logged(TinyTraining(8), tmp_path)
    first.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=7), first.trainer.terminate)
    first.trainer.run()
    logged(TinyTraining(8), tmp_path).trainer.run()
    events = read(tmp_path)
    assert steps(events, "loss/cycle") == [2, 4, 6, 8]
    assert [event.step for event in events.Images(STRIP_TAG)] == [3, 6]


def test_curves_are_on_disk_before_the_run_ends(tmp_path: Path) -> None:
    training = logged(TinyTraining(3), tmp_path)
    seen: list[list[int]] = []
    training.trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=3), lambda: seen.append(steps(read(tmp_path), "loss/cycle"))
    )
    training.trainer.run()
    assert seen == [[2]]


def test_strip_shows_the_middle_image(tmp_path: Path) -> None:
    training = logged(TinyTraining(3), tmp_path)
    training.trainer.run()
    encoded = read(tmp_path).Images(STRIP_TAG)[0].encoded_image_string
    picture = np.array(Image.open(io.BytesIO(encoded)).convert("L"), dtype=float)
    expected = (np.clip(SAMPLE[:, :16], -160, 240) + 160) / 400 * 255  # 18 columns are cut to 16
    np.testing.assert_allclose(picture[:, :16], expected, rtol=0, atol=0.5001)  # half a grey level


def test_panels_are_the_parts_of_the_denoiser() -> None:
    denoiser = TinyTraining().denoiser
    hu = torch.as_tensor(SAMPLE)[None, None, :, :16]
    picture = strip(denoiser, hu)
    assert picture.shape == (1, 12, 5 * 16)
    assert denoiser.training  # as it was
    x = denoiser.window.to_unit(hu)
    denoiser.eval()
    with torch.no_grad():
        parts = [x, denoiser.f(x), x - denoiser.h(x), denoiser.window.to_unit(denoiser(hu)), denoiser.h(x)]
    for panel, part in zip(picture.split(16, dim=2), parts, strict=True):
        expected = (part[0].clip(-1, 1) + 1) * 127.5
        torch.testing.assert_close(panel.float(), expected, rtol=0, atol=0.5001)  # half a grey level


def test_large_images_are_shown_in_the_middle() -> None:
    denoiser = TinyTraining().denoiser
    hu = torch.linspace(-160, 240, 300)[None, None, None].expand(1, 1, 280, 300)
    picture = strip(denoiser, hu)
    assert picture.shape == (1, 256, 5 * 256)
    expected = denoiser.window.to_unit(hu)[0, 0, 12:268, 22:278]
    torch.testing.assert_close(picture[0, :, :256] / 127.5 - 1, expected, rtol=0, atol=0.5 / 127.5 + 1e-6)


def test_gates_of_a_network() -> None:
    network = TinyTraining().g
    with torch.no_grad():
        network[1].gate.copy_(torch.tensor([0.0, 0.25, 0.75, 1.0]))
    assert {name: float(value) for name, value in gate_statistics(network).items()} == {"mean": 0.5, "min": 0, "max": 1}


def test_validation_has_curves_at_the_iteration(tmp_path: Path) -> None:
    training = TinyTraining(4)
    evaluator = Engine(lambda _, __: None)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(psnr=31.5))
    TensorBoardLog(str(tmp_path), training.denoiser, [SAMPLE], 9, 9, evaluator).attach(training.trainer)

    def validate(trainer: Engine) -> None:
        evaluator.state.epoch = trainer.state.iteration - 1  # as MONAI's Evaluator.run
        evaluator.run([0], max_epochs=trainer.state.iteration)

    training.trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), validate)
    training.trainer.run()
    assert [(event.step, event.value) for event in read(tmp_path).Scalars("validation/psnr")] == [(2, 31.5), (4, 31.5)]
