"""Every command of the bundle's README, as it is written there, where it says.

A fenced block without a language, or of sh or bash, is a block of commands. Words in capitals stand for what the reader
puts in; a block with such words is not run. ``<!-- not run: REASON -->`` above a block keeps it from being run,
``<!-- long -->`` leaves it to ``make test-long``.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data_tree import write_data

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "monai_bundle" / "docs" / "README.md"

BLOCK = re.compile(r"^(?:<!-- (?P<mark>[^\n]*?) -->\n+)?```(?:sh|bash)?\n(?P<commands>.*?)^```$", re.M | re.S)
OTHER_LANGUAGE = re.compile(r"^```(?!sh$|bash$)\w+\n.*?^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"(?:^|(?<=\s))#.*", re.MULTILINE)
STANDS_FOR_SOMETHING = re.compile(r"(?<!\S)[A-Z][A-Z_]+(?=[\s/]|$)")
FROM_THE_REPOSITORY = re.compile(r"\bmonai_bundle\b|\btests/|\bmake\b|\biscl-node\b")
TRAINING = re.compile(r"\brun\b.*\b(train|warm_start)\.json\b")

SHORT = " --max_iterations 2 --batch_size 2"
"""What the tests append to a training."""


def blocks() -> list[object]:
    """The blocks of commands, each named by its line."""
    text = OTHER_LANGUAGE.sub(lambda block: "\n" * block[0].count("\n"), README.read_text())
    found: list[object] = []
    for block in BLOCK.finditer(text):
        mark, commands = block["mark"] or "", block["commands"]
        marks = [pytest.mark.long] if mark == "long" else []
        if mark.startswith("not run:") or STANDS_FOR_SOMETHING.search(COMMENT.sub("", commands)):
            marks.append(pytest.mark.skip(reason=mark or "has words that stand for something"))
        line = text.count("\n", 0, block.start("commands")) + 1
        found.append(pytest.param(commands, marks=marks, id=f"line {line}"))
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with data and with weights of the reader's own, here and inside the bundle."""
    root = tmp_path_factory.mktemp("copy") / "repository"
    for name in ("monai_bundle", "iscl_node", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "runs", "eval", "*.ts", "*.onnx")
        shutil.copytree(REPOSITORY / name, root / name, ignore=ignored)
    for folder in (root, root / "monai_bundle"):
        write_data(folder / "data")
        (folder / "runs").mkdir()
        shutil.copy(root / "monai_bundle" / "models" / "model.pt", folder / "runs")
    return root


def shortened(commands: str) -> str:
    """The commands with trainings of two iterations."""
    lines = COMMENT.sub("", commands.replace("\\\n", " ")).splitlines()
    return "\n".join(line + SHORT if TRAINING.search(line) else line for line in lines)


def test_the_readme_has_commands() -> None:
    assert len(blocks()) >= 5


@pytest.mark.parametrize("commands", blocks())
def test_command(commands: str, repository: Path) -> None:
    folder = repository if FROM_THE_REPOSITORY.search(commands) else repository / "monai_bundle"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(
        ["bash", "-e", "-c", shortened(commands)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
