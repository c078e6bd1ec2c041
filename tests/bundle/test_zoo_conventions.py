"""What the checks of the MONAI model zoo ask of a bundle, as far as they need no network and no GPU."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import torch
from data_tree import write_data
from monai.bundle import ConfigWorkflow

REPOSITORY = Path(__file__).parents[2]
BUNDLE = REPOSITORY / "monai_bundle"
CONFIGS = sorted((BUNDLE / "configs").rglob("*.json"))
OUTPUT = {"runs", "eval", "data"}
FILES = sorted(
    path
    for path in BUNDLE.rglob("*")
    if path.is_file()
    and path.relative_to(BUNDLE).parts[0] not in OUTPUT
    and "__pycache__" not in path.parts
    and path.suffix not in {".ts", ".onnx"}
    and not path.name.startswith(".")
)
TEXTS = [path for path in FILES if path.suffix in {".json", ".py", ".md", ".txt", ".conf"}]

MAX_BYTES = 25_000_000
"""The zoo's limit for one file; larger ones go into large_files.yml."""

MONAI_NEEDS = {"monai", "numpy", "torch"}
"""What every bundle may import without naming it."""


def relative(path: Path) -> str:
    return path.relative_to(BUNDLE).as_posix()


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((BUNDLE / "configs" / name).read_text())
    return content


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return read("metadata.json")


@pytest.mark.parametrize(
    "name",
    [
        *("LICENSE", "docs/README.md", "docs/data_license.txt", "models/model.pt", "scripts/__init__.py"),
        *("configs/metadata.json", "configs/inference.json", "configs/train.json", "configs/logging.conf"),
    ],
)
def test_file_has_the_name_that_the_zoo_looks_for(name: str) -> None:
    assert (BUNDLE / name).is_file()


def test_metadata_follow_the_schema(metadata: dict[str, Any]) -> None:
    """What meta_schema_20240725.json asks, with the changelog and the name that the zoo asks for besides."""
    texts = "schema name version monai_version pytorch_version numpy_version task description authors copyright"
    optional = "data_source data_type image_classes label_classes pred_classes intended_use"
    objects = "changelog required_packages_version network_data_format"
    assert {name: type(metadata.get(name)) for name in texts.split()} == dict.fromkeys(texts.split(), str)
    assert {name: type(metadata.get(name)) for name in objects.split()} == dict.fromkeys(objects.split(), dict)
    assert all(isinstance(metadata.get(name, ""), str) for name in optional.split())
    assert all(isinstance(metadata.get(name, {}), dict) for name in ("eval_metrics", "supported_apps"))
    assert all(isinstance(reference, str) for reference in metadata["references"])


def test_ports_are_described(metadata: dict[str, Any]) -> None:
    """image and pred are the names that verify_net_in_out and the exports look for."""
    formats = [value for name, value in metadata.items() if name.endswith("_data_format")]
    assert metadata["network_data_format"]["inputs"].keys() == {"image"}
    assert metadata["network_data_format"]["outputs"].keys() == {"pred"}
    for port in (port for kind in formats for ports in kind.values() for port in ports.values()):
        kinds = {"type": str, "format": str, "num_channels": int, "spatial_shape": list, "dtype": str}
        assert {name: type(port[name]) for name in kinds} == kinds
        low, high = port["value_range"]
        assert low < high
        assert len(port["channel_def"]) == port["num_channels"]


def test_version_is_told_in_the_changelog(metadata: dict[str, Any]) -> None:
    assert metadata["version"] in metadata["changelog"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in metadata["changelog"])


def test_versions_are_those_that_were_tested_together(metadata: dict[str, Any]) -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    tested = {name.lower(): version for name, _, version in (line.partition("==") for line in lines)}
    libraries = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    asked = {name: metadata[key] for name, key in libraries.items()} | metadata["required_packages_version"]
    assert asked == {name: tested.get(name.lower()) for name in asked}


def imported_packages() -> Iterator[str]:
    """Top-level packages of the bundle's absolute imports, without those of Python itself."""
    for path in (BUNDLE / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules = [node.module]
            yield from {module.split(".")[0] for module in modules} - sys.stdlib_module_names


def test_required_packages_are_all_that_the_code_imports(metadata: dict[str, Any]) -> None:
    distributions = packages_distributions()
    needed = {distributions[package][0].lower() for package in imported_packages()}
    assert needed - MONAI_NEEDS <= metadata["required_packages_version"].keys()


@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_config_is_printed_prettily(path: Path) -> None:
    text = path.read_text()
    assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_text_is_tidy_and_names_no_place_of_ours(path: Path) -> None:
    text = path.read_text()
    assert not text or text.endswith("\n")
    assert not re.search(r"[ \t]$", text, re.MULTILINE) or path.suffix == ".md"  # a line break in Markdown
    assert not re.search(r"/home/|/root/|/Users/|/work/|/tmp/|[\"'](?:~|[A-Z]:\\)", text)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_file_is_small_enough(path: Path) -> None:
    assert path.stat().st_size <= MAX_BYTES


@pytest.mark.parametrize("path", sorted((BUNDLE / "models").glob("*.pt")), ids=relative)
def test_weights_are_a_plain_state_dict(path: Path) -> None:
    weights = torch.load(path, map_location="cpu", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())


def test_inference_has_the_keys_that_apps_look_for() -> None:
    assert {"bundle_root", "device", "network_def", "inferer", "dataset_dir", "output_dir"} <= read(
        "inference.json"
    ).keys()


def test_training_has_the_keys_that_apps_look_for() -> None:
    config = read("train.json")
    assert {"bundle_root", "device", "dataset_dir", "output_dir"} <= config.keys()
    assert {"trainer", "dataset", "handlers", "inferer"} <= config["train"].keys()
    assert "max_epochs" in config["train"]["trainer"]
    assert "data" in config["train"]["dataset"]
    assert "data" in config["validate"]["dataset"]
    assert {"evaluator", "handlers"} <= config["validate"].keys()
    validation = [handler for handler in config["train"]["handlers"] if handler["_target_"] == "ValidationHandler"]
    assert all(handler["interval"] == "@val_interval" for handler in validation)


@pytest.mark.parametrize(
    ("kind", "config", "folders"),
    [
        ("train", "train.json", {"clean_dir": "clean", "noisy_dir": "noisy"}),
        ("infer", "inference.json", {"dataset_dir": "volumes"}),
        ("infer", "evaluate.json", {"clean_dir": "validation/clean", "noisy_dir": "validation/noisy"}),
    ],
)
def test_monai_finds_every_property(
    kind: str, config: str, folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))
    data = write_data(tmp_path / "data")
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / config),
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(BUNDLE),
        output_dir=str(tmp_path),
        **{name: str(data / folder) for name, folder in folders.items()},
    )
    workflow.initialize()
    assert not workflow.check_properties()


@pytest.mark.parametrize(
    "section",
    ["Data", "Training configuration", "Input", "Output", "Performance", "Commands", "References", "License"],
)
def test_readme_has_the_sections_of_the_zoo(section: str) -> None:
    headings = re.findall(r"^#+ (.*)$", (BUNDLE / "docs" / "README.md").read_text(), re.MULTILINE)
    assert any(section.lower() in heading.lower() for heading in headings)
