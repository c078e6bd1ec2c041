"""Floors under the shipped weights, on a generated series of known truth: what is broken falls below them.

The phantom: an oval of fat around soft tissue, a spine, lungs, and discs of 10 mm that are 14 HU brighter or
darker. The noise has the spectrum and the place of a scan of it, 30 HU in soft tissue.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from monai_bundle.scripts.data.projection_noise import noise_fields
from monai_bundle.scripts.evaluation.image_quality import psnr
from monai_bundle.scripts.model.denoiser import ISCLDenoiser

BUNDLE = Path(__file__).parents[2] / "monai_bundle"
SIDE, PIXEL_MM = 224, 1.5
NOISE_HU, DISC_HU, DISC_MM = 30.0, 14.0, 5.0
WINDOW = (-160.0, 240.0)
SOFT_HU, FAT_HU, BONE_HU, LUNG_HU = 45.0, -100.0, 500.0, -820.0

OWN_PROFILE = json.loads((BUNDLE / "configs" / "inference.json").read_text())["profile"]
PROFILES = [OWN_PROFILE, *sorted(path.stem for path in (BUNDLE / "models").glob("*.pt") if path.stem != "model")]


@dataclass(frozen=True)
class Floors:
    """What the weights of a profile must reach at full strength: PSNR gain in dB; most bias of a tissue in HU; share of
    a disc's contrast that is kept; share of the noise in soft tissue that is removed.
    """

    gain_db: float
    bias_hu: float
    contrast: float
    removed: float


FLOORS = {
    "full": Floors(12.5, 0.5, 0.57, 0.8),
    "abdomen": Floors(11.5, 1.0, 0.42, 0.8),
    "chest": Floors(5.5, 1.0, 0.72, 0.48),
}
LUNG_REMOVED = 0.5
"""Share of the noise in lung that profile 'full' removes at least."""


def oval(row_mm: float, column_mm: float, height_mm: float, width_mm: float) -> np.ndarray:
    """1 inside an oval, 0 outside, half a pixel between."""
    row, column = (np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2) * PIXEL_MM
    distance = np.hypot((row - row_mm) / height_mm, (column - column_mm) / width_mm)
    return 1 / (1 + np.exp((distance - 1) * min(height_mm, width_mm) / (0.5 * PIXEL_MM)))


@dataclass(frozen=True)
class Phantom:
    """Truth without and with discs, (H, W) HU, and its regions."""

    truth: np.ndarray
    discs: np.ndarray
    regions: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    truth = np.full((SIDE, SIDE), -1000.0)
    parts = {
        "fat": (oval(0, 0, 105, 140), FAT_HU),
        "soft tissue": (oval(0, 0, 80, 115), SOFT_HU),
        "lung": (oval(-25, 0, 32, 60), LUNG_HU),
        "bone": (oval(70, 0, 14, 18), BONE_HU),
    }
    for shape, level in parts.values():
        truth = truth + shape * (level - truth)
    regions = {
        name: ndimage.binary_erosion(np.abs(truth - level) < 2, iterations=2) for name, (_, level) in parts.items()
    }
    places = [(35, x) for x in (-80, -45, 45, 80)] + [(0, x) for x in (-95, 95)] + [(20, 0), (60, -60), (60, 60)]
    discs = sum(DISC_HU * (-1) ** n * oval(*at, DISC_MM, DISC_MM) for n, at in enumerate(places))
    return Phantom(truth.astype(np.float32), np.asarray(discs, np.float32), regions)


@pytest.fixture(scope="module")
def noise(phantom: Phantom) -> np.ndarray:
    """Three draws, (3, H, W) HU."""
    fields = noise_fields(phantom.truth, PIXEL_MM, 3, np.random.default_rng(7)).astype(np.float32)
    return fields * np.float32(NOISE_HU)


def denoiser_of(profile: str) -> ISCLDenoiser:
    denoiser = ISCLDenoiser(profile, running_statistics=True)
    name = "model.pt" if profile == OWN_PROFILE else f"{profile}.pt"
    denoiser.load_state_dict(torch.load(BUNDLE / "models" / name, weights_only=True))
    return denoiser.eval()


@torch.inference_mode()
def denoised(denoiser: ISCLDenoiser, images: np.ndarray) -> np.ndarray:
    return denoiser(torch.from_numpy(images)[:, None])[:, 0].numpy()


def measured(denoiser: ISCLDenoiser, phantom: Phantom, noise: np.ndarray) -> dict[str, float]:
    noisy = phantom.truth + noise
    result, with_discs = denoised(denoiser, noisy), denoised(denoiser, noisy + phantom.discs)
    qualities = ([psnr(image, phantom.truth, WINDOW) for image in images] for images in (result, noisy))
    gains = np.subtract(*qualities)
    inside = np.abs(phantom.discs) > 0.9 * DISC_HU
    kept = ((with_discs - result) * np.sign(phantom.discs))[:, inside].mean() / DISC_HU
    found = {"gain": float(np.mean(gains)), "contrast": float(kept)}
    for name in ("fat", "soft tissue", "lung"):
        region = phantom.regions[name]
        left, before = (np.std((x - phantom.truth)[:, region]) for x in (result, noisy))
        found |= {f"removed {name}": float(1 - left / before)}
        found |= {f"bias {name}": float((result - noisy)[:, region].mean())}
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_shipped_weights_reach_their_floors(profile: str, phantom: Phantom, noise: np.ndarray) -> None:
    found, floors = measured(denoiser_of(profile), phantom, noise), FLOORS[profile]
    assert found["gain"] >= floors.gain_db, found
    assert found["removed soft tissue"] >= floors.removed, found
    assert floors.contrast <= found["contrast"] <= 1.1, found
    assert max(abs(found[f"bias {name}"]) for name in ("fat", "soft tissue")) <= floors.bias_hu, found
    if profile == "full":
        assert found["removed lung"] >= LUNG_REMOVED, found
    else:
        assert found["removed lung"] == 0, found  # beyond the window


def test_floors_are_above_what_broken_ones_reach(phantom: Phantom, noise: np.ndarray) -> None:
    """Weights of another window, and untrained ones."""
    floors, denoiser = FLOORS["chest"], denoiser_of("chest")
    denoiser.window = ISCLDenoiser("abdomen").window
    broken = measured(denoiser, phantom, noise)
    assert broken["gain"] < floors.gain_db or broken["contrast"] < floors.contrast, broken
    torch.manual_seed(0)
    assert measured(ISCLDenoiser("full").eval(), phantom, noise)["gain"] < 0.1
