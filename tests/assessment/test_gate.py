"""The gate measures what it says: on cases whose answer is known."""

import csv
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from iscl_node.assessment.__main__ import main
from iscl_node.assessment.anatomy import DiscsInAnatomy
from iscl_node.assessment.as_is import as_is
from iscl_node.assessment.cases import Case, LowDose, at_dose, find_cases, patients_for
from iscl_node.assessment.detection import INPUT, detection, dose_reduction, water, water_spectra
from iscl_node.assessment.dose_figures import figures
from iscl_node.assessment.gate import Plan, dose_rows
from iscl_node.assessment.methods import BM3D, FloatImage, NodeMethod, Strength, classical_methods, method_of
from iscl_node.assessment.tables import GROUPS, body_table, groups_table, largest_bias, summary
from iscl_node.domain import ModelIdentity
from iscl_node.domain.strength import AutoStrength
from iscl_node.errors import ConfigurationError
from iscl_node.settings import INSTALLED_BUNDLE

SIDE, SPACING_MM = 256, 1.2


def body(seed: int = 0, noise_hu: float = 8.0) -> Case:
    """Water with fat around it, a bone, and noise of its own."""
    random = np.random.default_rng(seed)
    y, x = np.ogrid[:SIDE, :SIDE]
    radius = np.hypot(y - SIDE / 2, x - SIDE / 2)
    hu = np.select([radius < 70, radius < 90], [40.0, -100.0], -1000.0)
    hu[120:132, 120:132] = 150
    hu = ndimage.gaussian_filter(hu, 1.0)
    hu += np.where(radius < 90, random.normal(0, noise_hu, hu.shape), 0)
    return Case("somebody", "1", "STANDARD", 5.0, SPACING_MM, 100.0, hu.astype(np.float32))


@pytest.fixture(scope="module")
def low() -> LowDose:
    return at_dose(body(), 0.25, 2)


def less(low: LowDose, share: float) -> list[FloatImage]:
    """Part of the added noise is gone, nothing else is changed."""
    return [low.case.hu + np.float32(1 - share) * noise for noise in low.noises]


def test_nothing_done_is_nothing_measured(low: LowDose) -> None:
    found = figures(low, low.images)
    for key in ("gain", "ssim", "tissue gain", "share", "removed", "removed in anatomy", "NPS"):
        assert found[key] == pytest.approx(0, abs=1e-6), key
    assert found["TTF 50"] == pytest.approx(1)
    assert all(value == 0 or math.isnan(value) for key, value in found.items() if key.startswith("bias"))


def test_half_of_the_added_noise_removed_is_6_db_and_half_of_the_noise_in_anatomy(low: LowDose) -> None:
    found = figures(low, less(low, 0.5))
    assert found["tissue gain"] == pytest.approx(6.02, abs=0.01)
    assert found["gain"] == pytest.approx(6.02, abs=0.5)  # the window's ends clip
    assert found["removed in anatomy"] == pytest.approx(0.5, abs=0.001)
    assert found["TTF 50"] == pytest.approx(1, abs=0.03)


def test_ceiling_is_near_that_of_the_variances(low: LowDose) -> None:
    # The reference's noise is white, the added one is not: the ceiling is a little above that of equal spectra.
    assert low.ceiling is not None
    plain = 10 * np.log10(1 + (low.ceiling.added_hu / low.ceiling.reference_hu) ** 2)
    assert plain - 0.3 < low.ceiling.gain_db < plain + 2
    assert low.ceiling.reference_hu == pytest.approx(8, rel=0.1)


def test_bias_of_one_tissue_is_seen_in_its_bin_alone(low: LowDose) -> None:
    fat = abs(low.case.hu + 100) < 40
    found = figures(low, [(image + np.where(fat, 3, 0)).astype(np.float32) for image in low.images])
    assert found["bias -120 to -80"] == pytest.approx(3, abs=0.3)
    assert abs(found["bias 0 to 40"]) < 0.3
    inside, beyond = largest_bias([found])
    assert (inside, beyond) == (pytest.approx(3, abs=0.3), pytest.approx(0, abs=0.3))


def test_specks_are_counted(low: LowDose) -> None:
    clean = low.case.hu.copy()
    before = figures(low, [clean, clean])["specks"]
    clean[128:160:4, 80:112:4] -= 150
    assert figures(low, [clean, clean])["specks"] > before + 1


def test_smoothing_lowers_the_spectrum_the_transfer_and_the_contrast_of_small_discs() -> None:
    rows = {
        (row["form"], row["disc"]): row
        for row in detection(water(1), lambda image: {"same": image, "smooth": ndimage.gaussian_filter(image, 2)})
    }
    for disc in ("3 mm, 14 HU", "10 mm, 3 HU"):
        assert rows["same", disc]["contrast kept"] == pytest.approx(1)
        assert rows["same", disc]["d' Hotelling"] == pytest.approx(0, abs=1e-6)
    assert rows["smooth", "3 mm, 14 HU"]["contrast kept"] < 0.6 < rows["smooth", "10 mm, 3 HU"]["contrast kept"]


def test_spectra_of_halved_noise_promise_three_quarters_of_the_dose() -> None:
    # Noise falls, nothing else: d' doubles, whose square goes with the dose.
    flat = {draw: image for draw, image in enumerate(water(1).images)}
    truth = np.where(flat[0] > -500, 0, -1000).astype(np.float32)
    spectra = water_spectra(lambda image: {"half": truth + (image - truth) / 2}, 1)
    index = [spectra[form].detectability(5, 7) for form in (INPUT, "half")]
    noise = spectra["half"].noise / spectra[INPUT].noise
    assert noise == pytest.approx(0.5, abs=0.01)
    assert dose_reduction(*index) == pytest.approx(0.75, abs=0.01)


class Shift:
    """A denoiser that finds 10 HU everywhere."""

    model = ModelIdentity("shift", "1", "0" * 64)
    window_hu = (-160.0, 240.0)

    def denoise(self, hu: FloatImage) -> FloatImage:
        """10 HU less."""
        return hu - 10


def test_the_node_s_own_window_and_strength_are_measured() -> None:
    hu = np.zeros((48, 48), np.float32)
    hu[:, 24:] = 1000
    result = NodeMethod("shift", Shift()).prepare(hu)(0.5)
    np.testing.assert_allclose(result[24, [8, 40]], [-5, 1000])


def test_a_table_counts_only_cases_with_a_ceiling() -> None:
    plan = Plan((0.25,), (Strength("1", 1.0),), 2, classical=False)
    cases = iter([body(), body(1, noise_hu=60.0)])
    rows = list(dose_rows(cases, [NodeMethod("shift", Shift())], plan, lambda _: None))
    assert [row["ceiling"] < 2 for row in rows if row["strength"] == "1"] == [False, True]
    assert "| 1 (1.00) | 1 of 2 |" in summary(rows)
    assert [row["share removed"] == row["best strength"] for row in rows] == [False, True, False, True]


def test_rows_by_kind_of_slice_say_what_there_is_none_of() -> None:
    plan = Plan((0.25,), (Strength("1", 1.0),), 2, classical=False)
    rows = list(dose_rows(iter([body()]), [NodeMethod("shift", Shift())], plan, lambda _: None))
    lines = groups_table(rows, 0.25, "shift", "1").splitlines()[4:]
    assert len(lines) == len(GROUPS)
    empty = {line.split("|")[1].strip() for line in lines if "| none |" in line}
    assert {"sharp kernels", "pixels below 0.6 mm", "300 mm and more"} <= empty
    assert not {"soft kernels", "0.8 mm and more", "4 mm and more"} & empty
    assert "shift, 1 | 0.25 |" in body_table(rows)


def test_noise_by_depth_is_that_of_the_layers(low: LowDose) -> None:
    inner = low.case.depths["from 80 mm"]
    assert inner.any()
    results = [image - np.where(inner, noise, 0) for image, noise in zip(low.images, low.noises, strict=True)]
    found = figures(low, results)
    assert found["removed, from 80 mm"] == pytest.approx(1, abs=1e-3)
    assert found["removed, 0 to 30 mm deep"] == pytest.approx(0, abs=1e-3)


def test_discs_in_anatomy_are_seen_twice_as_well_in_half_the_noise(low: LowDose) -> None:
    discs = DiscsInAnatomy(low.case)
    before, after = discs.seen(discs.added, low.images), discs.seen(discs.added, less(low, 0.5))
    assert [after[key] / before[key] for key in before] == pytest.approx([2.0] * 4)


def test_classical_methods_gain() -> None:
    plan = Plan((0.1,), (), 2, classical=True)
    rows = list(dose_rows(iter([body()]), [], plan, lambda _: None))
    assert [row["form"] for row in rows][:2] == ["NLM, best parameter", "TV, best parameter"]
    assert all(float(row["gain"]) > 1 for row in rows)


def test_bm3d_is_compared_with_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = [each.name for each in classical_methods()]
    (tmp_path / "bm3d.py").write_text("def bm3d(image, sigma):\n    return image - sigma\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {*before, "BM3D, best parameter"} == {each.name for each in classical_methods()}
    monkeypatch.delitem(sys.modules, "bm3d", raising=False)
    np.testing.assert_array_equal(BM3D.denoise(np.full((4, 4), 10, np.float32), 3.0), np.full((4, 4), 7))


def test_nobody_is_in_two_lists() -> None:
    lists = json.loads((INSTALLED_BUNDLE / "configs" / "splits" / "quality.json").read_text())
    names = [name for use in ("test", "low_dose", "phantoms", "validation", "training") for name in lists[use]]
    assert len(names) == len(set(names))
    assert len(patients_for(INSTALLED_BUNDLE, "test")) >= 10


def test_cases_are_of_the_patients_asked_for(write_series: Callable[..., Path]) -> None:
    folder = write_series(5, PatientID="A", ConvolutionKernel="SOFT").parent
    write_series(5, folder="other", PatientID="B")
    found = list(find_cases(folder, {"A"}, 2))
    assert [(case.patient, case.kernel) for case in found] == [("A", "SOFT")] * 2
    assert len({case.name for case in found}) == 2
    with pytest.raises(ConfigurationError, match="no usable slice of C"):
        find_cases(folder, {"C"}, 2)


def test_the_command_writes_tables(
    write_series: Callable[..., Path],
    identity_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_series(1, PatientID="A")
    out = tmp_path / "quality"
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "",
            str(folder),
            str(out),
            "--patients",
            "A",
            "--fast",
            "--strengths",
            "1",
            "--method",
            f"same={identity_bundle}",
        ],
    )
    assert main() == 0
    assert "same, 1" in capsys.readouterr().out
    with (out / "slices.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["patient"] == "A"
    assert (out / "quality.md").read_text().count("\n|") > 8
    assert {"detection.csv", "water.csv", "characterisation.csv", "as_is.csv"} <= {each.name for each in out.iterdir()}
    assert (out / "pictures.png").stat().st_size > 10_000


@pytest.mark.parametrize("method", ["nothing", "a=nowhere", "a=iscl_node.errors:nobody"])
def test_what_is_no_method_is_said(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), str(tmp_path), "--method", method])
    assert main() == 2
    assert method in capsys.readouterr().err


def test_a_callable_gives_a_denoiser() -> None:
    assert method_of(f"shift={__name__}:Shift").denoiser.denoise(np.zeros(1)) == -10


def test_strength_auto_is_chosen_from_the_noise_of_the_images(low: LowDose) -> None:
    auto = Strength("auto", AutoStrength(4))
    noisy = [low.case.hu + 3 * noise for noise in low.noises]
    assert 0 < auto.of([low.case.hu]) < auto.of(low.images) < auto.of(noisy) < 1
    assert Strength("0.3", 0.3).of(noisy) == 0.3
    assert auto.of(noisy) > auto.of(noisy, kernel="BONE") == 0.5  # as in the node


def test_what_is_kept_of_discs_in_anatomy_is_what_the_change_holds() -> None:
    discs = DiscsInAnatomy(body())
    assert len(discs.places) >= 8
    assert list(discs.kept(0.7 * discs.added).values()) == pytest.approx([0.7] * 4)
    assert math.isnan(
        DiscsInAnatomy(replace(body(), hu=np.full((64, 64), -1000, np.float32))).kept(np.zeros((64, 64)))[
            "contrast kept, 3 mm"
        ]
    )


def test_as_it_came_tells_noise_blotches_and_structure() -> None:
    case = at_dose(body(noise_hu=2.0), 0.25, 1).images[0]
    case = replace(body(), hu=case)
    untouched = as_is(case, case.hu)
    assert untouched["noise as is"] == untouched["noise left"] > 2
    assert untouched["NPS as is"] == untouched["NPS left"]
    smooth = as_is(case, ndimage.gaussian_filter(case.hu, 1.5))
    assert smooth["noise left"] < smooth["noise as is"]
    assert smooth["blotches left"] > smooth["blotches as is"]
    assert smooth["structure taken"] > 1.5  # smoothing takes edges along
