"""The rows of Table I as overlays of train.json: which networks learn, and from which terms."""

import json
from pathlib import Path

import pytest
import torch
from factories import ct_dataset, part10, soft_tissue
from monai.bundle import ConfigWorkflow

from monai_bundle.scripts.model.denoiser import ISCLDenoiser

BUNDLE = Path(__file__).parents[2] / "monai_bundle"
CYCLE_GAN = {"loss", "generator", "discriminator", "adversarial_clean", "adversarial_noisy", "cycle"}
CYCLE_GAN |= {"d_clean", "d_noisy"}
TERMS = {
    "a": CYCLE_GAN,
    "ab": CYCLE_GAN | {"extractor", "pseudo_noise"},
    "abc": CYCLE_GAN | {"extractor", "pseudo_noise", "bypass"},
    "abcd": CYCLE_GAN | {"extractor", "pseudo_noise", "bypass", "boosting"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``clean`` and ``noisy`` with one CT slice each."""
    folder = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("clean", "noisy")):
        (folder / name).mkdir()
        (folder / name / "1.dcm").write_bytes(part10(ct_dataset(soft_tissue(seed=seed, side=64), PatientID=name)))
    return folder


@pytest.mark.parametrize("row", TERMS)
def test_overlay_trains_its_row(row: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))
    workflow = ConfigWorkflow(
        config_file=[str(BUNDLE / "configs" / name) for name in ("train.json", f"ablation/{row}.json")],
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=False,
        bundle_root=str(BUNDLE),
        clean_dir=str(data / "clean"),
        noisy_dir=str(data / "noisy"),
        output_dir=str(tmp_path),
        max_iterations=2,
        batch_size=2,
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    parser = workflow.parser
    networks = dict(zip("FGHXY", parser.get_parsed_content("train::trainer").networks, strict=True))
    before = {name: [p.detach().clone() for p in network.parameters()] for name, network in networks.items()}

    workflow.run()

    changed = {
        name
        for name, network in networks.items()
        if any((a != b).any() for a, b in zip(before[name], network.parameters(), strict=True))
    }
    assert changed == set("FGXY") | ({"H"} if row != "a" else set())
    assert parser.get_parsed_content("train::trainer").state.output[0].keys() == TERMS[row]
    assert parser.get_parsed_content("network_def").gamma == (1.0 if row == "a" else 0.5)
    assert (tmp_path / "model.pt").exists()


def test_overlays_hold_nothing_but_options_of_the_training() -> None:
    options = json.loads((BUNDLE / "configs" / "train.json").read_text())
    files = sorted((BUNDLE / "configs" / "ablation").glob("*.json"))
    assert [file.stem for file in files] == sorted(TERMS)
    for file in files:
        assert json.loads(file.read_text()).keys() <= options.keys()


def test_without_the_extractor_the_result_is_that_of_f() -> None:
    """Row A: gamma 1, equation (13) is F(x)."""
    gamma = json.loads((BUNDLE / "configs" / "ablation" / "a.json").read_text())["gamma"]
    denoiser = ISCLDenoiser(gamma=gamma).eval()
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(denoiser.ensemble(x), denoiser.f(x), rtol=0, atol=0)
