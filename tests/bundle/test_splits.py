"""Patient lists, and what is taken from the tree of the paper's collection."""

import json
import logging
from pathlib import Path

import pytest
from image_files import write_ct
from monai.bundle import ConfigParser
from tcia_tree import COLLECTION, write_patient

from monai_bundle.scripts.data.images import Slice, read_slice
from monai_bundle.scripts.data.pairs import PairedSlices, validation_pairs
from monai_bundle.scripts.data.splits import dose_slices, read_split
from monai_bundle.scripts.data.unpaired import training_slices

BUNDLE = Path(__file__).parents[2] / "monai_bundle"
SPLITS = BUNDLE / "configs" / "splits"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of five patients."""
    for patient in ("L004", "L006", "L014", "L019", "L125"):
        write_patient(tmp_path / "tree", patient)
    return tmp_path / "tree"


def write_split(folder: Path, **lists: object) -> str:
    path = folder / "split.json"
    path.write_text(json.dumps(lists))
    return str(path)


def series_of(slices: list[Slice]) -> set[tuple[str, str]]:
    return {(each.patient, each.series) for each in slices}


@pytest.mark.parametrize(
    ("name", "clean", "noisy", "validation"),
    [
        ("abdomen", "L004 ... L064", "L071 ... L123", "L125 ... L178"),
        ("chest", "C002 ... C077", "C081 ... C135", "C158 ... C203"),
    ],
)
def test_split_of_the_paper(name: str, clean: str, noisy: str, validation: str) -> None:
    split = read_split(str(SPLITS / f"{name}.json"))
    for patients, count, ends in (
        (split.clean, 10, clean),
        (split.noisy, 10, noisy),
        (split.validation, 10, validation),
    ):
        assert len(set(patients)) == count
        assert list(patients) == sorted(patients)
        assert f"{patients[0]} ... {patients[-1]}" == ends


def test_training_sees_full_dose_of_some_and_low_dose_of_others(tree: Path, tmp_path: Path) -> None:
    split = write_split(tmp_path, clean=["L004", "L006"], noisy=["L014", "L019"], validation=["L125"])
    slices = training_slices(dataset_dir=str(tree), split=split)
    assert series_of(slices.clean) == {("L004", "Full Dose Images"), ("L006", "Full Dose Images")}
    assert series_of(slices.noisy) == {("L014", "Low Dose Images"), ("L019", "Low Dose Images")}
    assert len(slices.clean) == len(slices.noisy) == 4


@pytest.mark.parametrize("root", [".", COLLECTION.parent, COLLECTION])
def test_the_tree_may_be_named_at_each_of_its_levels(tree: Path, root: Path) -> None:
    found = dose_slices(str(tree / root), ["L004", "L125"], "Full Dose Images")
    assert {patient: len(slices) for patient, slices in found.items()} == {"L004": 2, "L125": 2}


def test_series_is_told_by_its_header_in_any_case_or_else_by_its_folder(tmp_path: Path) -> None:
    write_ct(tmp_path / "L004" / "1.2.3" / "1.2.3.4" / "1-001.dcm", SeriesDescription="Full dose images")
    write_ct(tmp_path / "L004" / "1.2.3" / "1.000000-Full Dose Images-1" / "1-001.dcm", SeriesDescription=None)
    write_ct(tmp_path / "L004" / "1.2.3" / "Full Dose Images" / "1-001.dcm", SeriesDescription="Low Dose Images")
    (tmp_path / "L004" / "1.2.3" / "1.2.3.4" / "0-LICENSE").write_text("Creative Commons\n" * 20)
    assert len(dose_slices(str(tmp_path), ["L004"], "Full Dose Images")["L004"]) == 2


def test_downloads_side_by_side_are_one(tmp_path: Path) -> None:
    for part, description in (("manifest-1", "Full Dose Images"), ("manifest-2", "Low Dose Images")):
        write_ct(tmp_path / part / COLLECTION.name / "L004" / "s" / "1" / "1.dcm", SeriesDescription=description)
    assert len(dose_slices(str(tmp_path), ["L004"], "Low Dose Images")["L004"]) == 1


def test_patients_that_are_not_there_are_listed(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--dataset_dir: .* holds no folder of L001, L999$"):
        dose_slices(str(tree), ["L999", "L004", "L001"], "Full Dose Images")
    split = write_split(tmp_path, clean=["L004", "L110"], noisy=["L006", "L123"])
    with pytest.raises(ValueError, match=r"holds no folder of L110, L123$"):
        training_slices(dataset_dir=str(tree), split=split)
    write_patient(tree, "L033", low=False)
    with pytest.raises(ValueError, match=r"no series 'Low Dose Images' of L033 in .*GE scanner"):
        dose_slices(str(tree), ["L033", "L004"], "Low Dose Images")
    with pytest.raises(ValueError, match=r"--dataset_dir: nowhere is not a folder"):
        dose_slices("nowhere", ["L004"], "Full Dose Images")


def test_split_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--split: .*none\.json is no file"):
        read_split(str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match=r"split\.json: L004, L006 in both 'clean' and 'noisy'$"):
        read_split(write_split(tmp_path, clean=["L006", "L001", "L004"], noisy=["L004", "L006"]))
    with pytest.raises(ValueError, match=r"split\.json: L001 in both 'clean' and 'validation'$"):
        read_split(write_split(tmp_path, clean=["L001"], noisy=["L004"], validation=["L001"]))
    with pytest.raises(ValueError, match=r"split\.json: the list 'noisy' is missing or empty"):
        read_split(write_split(tmp_path, clean=["L001"]))
    with pytest.raises(ValueError, match=r"split\.json must hold the lists clean, noisy, validation"):
        read_split(write_split(tmp_path, clean="L001", noisy=["L004"]))
    (tmp_path / "split.json").write_text("clean: L001")
    with pytest.raises(ValueError, match=r"split\.json is no JSON"):
        read_split(str(tmp_path / "split.json"))


def test_validation_pairs_are_the_same_slice_at_both_doses(tree: Path, tmp_path: Path) -> None:
    split = write_split(tmp_path, clean=["L004"], noisy=["L006"], validation=["L125", "L019"])
    pairs = validation_pairs(dataset_dir=str(tree), split=split)
    assert [pair.noisy.patient for pair in pairs] == ["L125", "L125", "L019", "L019"]
    for pair in pairs:
        assert (pair.noisy.series, pair.normal.series) == ("Low Dose Images", "Full Dose Images")
        assert pair.noisy.patient == pair.normal.patient
        assert pair.noisy.place == pair.normal.place
    item = PairedSlices(pairs)[3]
    assert item["name"] == pairs[3].noisy.path.relative_to(tree).as_posix()
    assert (item["label"][0] == read_slice(pairs[3].normal)).all()


def test_train_config_takes_the_split_of_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))
    bundle = tmp_path / "bundle"
    (bundle / "configs" / "splits").mkdir(parents=True)
    (bundle / "configs" / "splits" / "chest.json").write_text(
        json.dumps({"clean": ["C002"], "noisy": ["C004"], "validation": ["C158"]})
    )
    for patient in ("C002", "C004", "C158"):
        write_patient(tmp_path / "tree", patient)
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "train.json"))
    parser.update({"bundle_root": str(bundle), "profile": "chest", "dataset_dir": str(tmp_path / "tree")})
    parser.update({"batch_size": 4, "images_per_batch": 2})
    dataset = parser.get_parsed_content("train::dataset")
    assert series_of(dataset.data.noisy) == {("C004", "Low Dose Images")}
    assert series_of(dataset.data.clean) == {("C002", "Full Dose Images")}
    assert dataset[0]["noisy"].shape == (4, 1, 64, 64)
    assert {item["patient"] for item in parser.get_parsed_content("validate::dataset")} == {"C158"}


def test_slices_of_one_dose_only_are_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_patient(tmp_path, "L125", slices=3, full_first=2)
    split = write_split(tmp_path, clean=["L004"], noisy=["L006"], validation=["L125"])
    with caplog.at_level(logging.WARNING):
        pairs = validation_pairs(dataset_dir=str(tmp_path), split=split)
    assert {pair.noisy.place for pair in pairs} == {(-150, -150, -6), (-150, -150, -9)}
    assert "L125: 2 slices are in one of the two series only" in caplog.text


def test_doses_that_do_not_match_are_refused(tmp_path: Path) -> None:
    split = write_split(tmp_path, clean=["L004"], noisy=["L006"], validation=["L125"])
    folder = write_patient(tmp_path, "L125", full_first=10)
    with pytest.raises(ValueError, match="L125: no slice of 'Low Dose Images' is at the place of one of"):
        validation_pairs(dataset_dir=str(tmp_path), split=split)
    series = next(folder.glob("*/*Low Dose*"))
    (series / "copy.dcm").write_bytes((series / "1-099.dcm").read_bytes())
    with pytest.raises(ValueError, match=r"1-099\.dcm and .*copy\.dcm are at the same place of the same series"):
        validation_pairs(dataset_dir=str(tmp_path), split=split)


def test_slices_without_a_position_are_matched_by_their_number(tmp_path: Path) -> None:
    for series, seed in (("Full Dose Images", 0), ("Low Dose Images", 1)):
        for number in (1, 2):
            path = tmp_path / "L125" / "study" / series / f"{number}.dcm"
            write_ct(path, seed, SeriesDescription=series, InstanceNumber=number, ImagePositionPatient=None)
    split = write_split(tmp_path, clean=["L004"], noisy=["L006"], validation=["L125"])
    pairs = validation_pairs(dataset_dir=str(tmp_path), split=split)
    assert [(pair.noisy.path.name, pair.normal.path.name) for pair in pairs] == [("1.dcm", "1.dcm"), ("2.dcm", "2.dcm")]
