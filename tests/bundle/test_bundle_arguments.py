"""Mistakes on the command line end the run before anything is read."""

import json
import re
import sys
from pathlib import Path

import monai.bundle
import pytest

from monai_bundle.scripts.arguments import RUN_ARGUMENTS, check_arguments, check_path_names

BUNDLE = Path(__file__).parents[2] / "monai_bundle"
KEYS = json.loads((BUNDLE / "configs" / "train.json").read_text())


def check(*argv: str) -> None:
    check_arguments(str(BUNDLE), ["train.json"], argv=["run", "training", *argv])


@pytest.mark.parametrize("name", sorted(RUN_ARGUMENTS | KEYS.keys()))
def test_every_real_argument_passes(name: str) -> None:
    check(f"--{name}", "1")
    check(f"--{name}=1")


@pytest.mark.parametrize(
    "name",
    [
        "train::dataloader::num_workers",
        "train#trainer#max_epochs",
        "train::handlers::1::iteration_log",
        "network_def::gamma",
        "max-iterations",
    ],
)
def test_nested_and_hyphenated_arguments_pass(name: str) -> None:
    check(f"--{name}", "-1")


@pytest.mark.parametrize(
    ("argument", "near"),
    [
        ("--max_iteration", "--max_iterations"),
        ("--clean-dirs=x", "--clean_dir"),
        ("-batchsize", "--batch_size"),
        ("--trian::dataloader::num_workers", None),
        ("--train::datloader::num_workers", None),
        ("--train::handlers::9::iteration_log", None),
    ],
)
def test_misspelt_argument_is_refused(argument: str, near: str | None) -> None:
    with pytest.raises(ValueError, match="is no argument of this bundle") as refusal:
        check(argument, "3")
    if near:
        assert str(refusal.value).endswith(f"did you mean {near}?")


@pytest.mark.parametrize("argv", [("--resume", "false"), ("--boosting=true",)])
def test_switches_are_spelt_as_python_does(argv: tuple[str, ...]) -> None:
    """Fire hands ``false`` on as text, which is true."""
    with pytest.raises(ValueError, match="would be taken for text: write True or False"):
        check(*argv)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    check_arguments(str(BUNDLE), [], files={"checkpoint": str(tmp_path / "model.pt")}, argv=[])
    with pytest.raises(ValueError, match=r"--checkpoint: .*/chest\.pt is not a file"):
        check_arguments(str(BUNDLE), [], files={"checkpoint": str(tmp_path / "chest.pt")}, argv=[])


def test_folders_are_named_by_their_argument(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--clean_dir is missing; it names a folder$"):
        check_arguments(str(BUNDLE), ["train.json"], folders={"clean_dir": ""}, argv=[])
    with pytest.raises(ValueError, match=r"^--noisy_dir: .*nowhere is not a folder$"):
        check_arguments(str(BUNDLE), [], folders={"a": str(tmp_path), "noisy_dir": f"{tmp_path}/nowhere"}, argv=[])


def test_bounds_are_named_by_their_argument() -> None:
    check_arguments(str(BUNDLE), [], at_least={"batch_size": (2, 2)}, argv=[])
    with pytest.raises(ValueError, match=r"^--batch_size is 1, must be at least 2$"):
        check_arguments(str(BUNDLE), [], at_least={"batch_size": (1, 2)}, argv=[])


def test_choices_are_named_by_their_argument() -> None:
    check_arguments(str(BUNDLE), [], one_of={"update_order": ("b", ["a", "b"])}, argv=[])
    with pytest.raises(ValueError, match=r"^--update_order is c; there are a, b$"):
        check_arguments(str(BUNDLE), [], one_of={"update_order": ("c", ["a", "b"])}, argv=[])


def test_mistake_on_the_command_line_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    program = str(Path(monai.bundle.__file__).parent / "__main__.py")
    monkeypatch.setattr(sys, "argv", [program, "run", "training", "--bach_size", "4"])
    with pytest.raises(
        SystemExit, match=r"^error: --bach_size is no argument of this bundle; did you mean --batch_size"
    ):
        check_arguments(str(BUNDLE), ["train.json"])


def test_arguments_of_other_programs_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest", "--verbose"])
    check_arguments(str(BUNDLE), ["train.json"])


@pytest.mark.parametrize("name", ["20260102", "1e5", "[1]", "$scan", "@scan", "%scan", "head#2", "None", "(a,b)"])
def test_a_folder_that_would_be_taken_for_something_else_is_named_with_the_way_out(name: str) -> None:
    for argv in (["--dataset_dir", name], [f"--output-dir={name}"]):
        with pytest.raises(ValueError, match=re.escape(f"{name} would be taken")) as refusal:
            check_path_names(argv)
        assert str(refusal.value).endswith(f"write ./{name}")
        check_path_names([argument.replace(name, f"./{name}") for argument in argv])


@pytest.mark.parametrize("argv", [["--dataset_dir", "a b,c"], ["--clean_dir=scans/2026"], ["--batch_size", "2"], []])
def test_other_names_and_arguments_pass(argv: list[str]) -> None:
    check_path_names(argv)
