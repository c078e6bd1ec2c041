"""The plan of docs/architecture.md holds: rooms, libraries, sizes, names, and where an error may end."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from surroundings import REPOSITORY

PACKAGE = REPOSITORY / "iscl_node"
BUNDLE = REPOSITORY / "monai_bundle" / "scripts"
MODULES = sorted([*PACKAGE.rglob("*.py"), *BUNDLE.rglob("*.py")])

LONGEST_MODULE = 400
LONGEST_FUNCTION = 40
BANNED_WORDS = ("util", "helper", "manager", "handler", "processor", "dispatcher", "common", "misc")

CATCHES_EVERYTHING = {
    "iscl_node/errors.py": "outside_bytes: decoders raise almost anything about foreign bytes; the caller judges",
    "iscl_node/logs.py": "unforeseen_logged: the edge of a service; the caller answers for it",
    "iscl_node/audit/forwarding.py": "the thread must not end for years; each fault is logged, and it tries again",
    "iscl_node/audit/trail.py": "who brings a message must not fail with it; it is logged, and the message waits",
    "iscl_node/pipeline/housekeeping.py": "the thread must not end for years; each fault is counted and logged",
    "iscl_node/pipeline/workflows/trying.py": "unforeseen_quarantined: the edge of a step and of a workflow",
    "iscl_node/pipeline/reception/peer_lists.py": "the thread that asks a peer; logged, and asked again",
    "iscl_node/dicom/reading/codec_child.py": "codecs raise almost anything; each becomes an answer",
}
MOST_BROAD_EXCEPTS = 8
"""Only ever lowered."""
PRINTS = {"iscl_node/cli/"}
LISTS = {
    "iscl_node/store/tree.py": "the spool: it follows no link",
    "iscl_node/audit/journal.py": "its own folder",
    "iscl_node/denoise/bundle_digest.py": "the bundle",
    "iscl_node/dicom/reading/folder.py": "folders of the command line",
    "iscl_node/offline.py": "the same",
    "iscl_node/pipeline/page/decisions.py": "its own copy of what is exported, outside of the spool",
    "iscl_node/web/rendering.py": "the page's own scripts and style sheets",
}
LISTING = {"glob", "iglob", "rglob", "walk", "fwalk", "scandir", "iterdir", "listdir", "rmtree"}
"""Functions that list or remove a tree."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages and the pyproject.toml in ``root``."""
    program = Path(sys.executable).with_name("lint-imports")
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [str(program), "--no-cache", "--no-logo", "--config", "pyproject.toml"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages and of their plan, to break."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "iscl_node", ignore=ignored)
    shutil.copytree(BUNDLE, tmp_path / "monai_bundle" / "scripts", ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_rooms_keep_to_the_plan() -> None:
    result = lint_imports(REPOSITORY)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("iscl_node/dicom/uids.py", "from iscl_node.network import tls", "strangers"),
        ("iscl_node/dicom/judging/slices.py", "from iscl_node.dicom.selecting import rules", "wing of dicom"),
        ("iscl_node/dicom/cabinet.py", "", "wing of dicom"),
        ("iscl_node/network/scp/intake.py", "from iscl_node.network.scu import query", "wing of network"),
        ("iscl_node/store/records/plan.py", "from iscl_node.store import spool", "wing of store"),
        ("iscl_node/pipeline/reception/closing.py", "from iscl_node.pipeline.steps import plan", "wing of pipeline"),
        ("iscl_node/pipeline/steps/plan.py", "from iscl_node.pipeline.engine import words", "no workflow engine"),
        ("iscl_node/making/products.py", "from iscl_node.store import spool", "no spool"),
        ("iscl_node/store/layout.py", "from iscl_node.pipeline import housekeeping", "rooms below"),
        ("iscl_node/pipeline/workflows/batch.py", "import dbos", "knows the workflow engine"),
        ("iscl_node/pipeline/engine/words.py", "import iscl_node.domain", "knows no series"),
        ("iscl_node/cabinet.py", "", "no other rooms"),
        ("iscl_node/pipeline/reception/closing.py", "import pydicom", "know data sets"),
        ("iscl_node/cli/spool.py", "from iscl_node.denoise import bundle_denoiser", "without torch"),
        ("monai_bundle/scripts/model/window.py", "import iscl_node.domain", "nothing of the node"),
        ("monai_bundle/scripts/data/images.py", "from ..model import window", "folder of the bundle"),
        ("monai_bundle/scripts/cabinet.py", "", "folder of the bundle"),
    ],
)
def test_a_planted_violation_is_found(copy: Path, module: str, line: str, broken: str) -> None:
    with (copy / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")

    result = lint_imports(copy)

    assert result.returncode == 1, result.stdout + result.stderr
    verdicts = re.findall(r"(.*?) (KEPT|BROKEN)", " ".join(result.stdout.split()))
    assert any(broken in contract for contract, verdict in verdicts if verdict == "BROKEN"), result.stdout


def broad_excepts(path: Path) -> list[int]:
    """The lines with a bare ``except`` or one for Exception or BaseException."""
    handlers = [node for node in nodes(path) if isinstance(node, ast.ExceptHandler)]
    return sorted(handler.lineno for handler in handlers if _is_broad(handler))


def _is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(each is None or ast.unparse(each) in {"Exception", "BaseException"} for each in caught)


def test_everything_is_caught_in_the_planned_places_only() -> None:
    found = {name_of(path): lines for path in MODULES if (lines := broad_excepts(path))}
    assert set(found) == set(CATCHES_EVERYTHING)
    assert sum(map(len, found.values())) <= MOST_BROAD_EXCEPTS, found


@pytest.mark.parametrize("caught", ["", "Exception", "BaseException as error", "(ValueError, Exception)"])
def test_a_planted_broad_except_is_found(tmp_path: Path, caught: str) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(f"try:\n    ...\nexcept {caught}:\n    ...\ntry:\n    ...\nexcept OSError:\n    ...\n")
    assert broad_excepts(planted) == [3]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_module_keeps_to_the_style(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE
    assert not [word for word in BANNED_WORDS if word in path.stem]
    for node in nodes(path):
        assert not isinstance(node, ast.Global), f"line {node.lineno}: a global statement"
        if isinstance(node, Function):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1 - docstring_lines(node)
            assert lines <= LONGEST_FUNCTION, f"{node.name} has {lines} lines"


def lists(path: Path) -> bool:
    """Whether the module lists or removes a tree by itself."""
    calls = [ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)]
    return any(call.split(".")[-1] in LISTING for call in calls if call not in ("tree.walk", "ast.walk"))


def test_trees_are_listed_and_removed_in_the_planned_places_only() -> None:
    found = {name_of(path) for path in MODULES if PACKAGE in path.parents and lists(path)}
    assert {name for name in found if not name.startswith("iscl_node/demo/")} == set(LISTS)


@pytest.mark.parametrize(
    "line", ["os.walk(x)", "x.rglob('*')", "shutil.rmtree(x)", "scandir(x)", "glob('*')", "Path().iterdir()"]
)
def test_a_planted_listing_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "planted.py").write_text(f"tree.walk(x)\nast.walk(x)\n{line}\n")
    assert lists(tmp_path / "planted.py")
    (tmp_path / "planted.py").write_text("tree.walk(x)\nast.walk(x)\n")
    assert not lists(tmp_path / "planted.py")


def docstring_lines(function: Function) -> int:
    """Lines of the docstring: what explains the code is not counted as code."""
    first = function.body[0]
    if ast.get_docstring(function) is None or first.end_lineno is None:
        return 0
    return first.end_lineno - first.lineno + 1


@pytest.mark.parametrize("path", [each for each in MODULES if PACKAGE in each.parents], ids=name_of)
def test_only_the_command_line_prints(path: Path) -> None:
    if any(name_of(path).startswith(allowed) for allowed in PRINTS):
        return
    calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


PAST = re.compile(r"ed|sent|lost|left|found|chosen|read|kept|taken|written|made|held")
"""How a past participle ends, or one of the irregular ones that are used."""

EVENT = re.compile(r"[a-z_]+\.[a-z_]+")


def is_noun_and_past(event: str) -> bool:
    """Whether an event of the log says what happened to what: ``peer.query_failed``."""
    words = event.partition(".")[2].split("_")
    return EVENT.fullmatch(event) is not None and any(re.fullmatch(rf"[a-z]*({PAST.pattern})", word) for word in words)


def _events(tree: ast.AST) -> Iterator[str]:
    """The events of a module: first arguments of calls that log, and what is assigned to names of events."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.fullmatch(r"_log\.\w+|unforeseen_logged", ast.unparse(node.func)):
            found: list[ast.AST] = list(node.args[:1])
        elif isinstance(node, ast.Assign | ast.AnnAssign) and "event" in ast.unparse(node).partition("=")[0].lower():
            found = [node.value] if node.value is not None else []
        else:
            continue
        for constant in (each for part in found for each in ast.walk(part) if isinstance(each, ast.Constant)):
            if isinstance(constant.value, str) and "." in constant.value:
                yield constant.value


def test_every_event_of_the_log_is_a_noun_and_a_verb_in_the_past() -> None:
    events = {
        event: path
        for path in (REPOSITORY / "iscl_node").rglob("*.py")
        for event in _events(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert len(events) > 60
    assert not {event: path for event, path in events.items() if not is_noun_and_past(event)}


@pytest.mark.parametrize(
    "line", ['_log.info("peer.away")', '_log.error("failed.")', 'event = "a.held" if x else "a.b"']
)
def test_a_planted_event_is_found(line: str) -> None:
    assert not all(map(is_noun_and_past, _events(ast.parse(line))))
    assert all(map(is_noun_and_past, _events(ast.parse('_log.info("peer.query_failed", x="a.b")'))))


PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:iscl_node|monai_bundle|tests|config|docker)/[\w/.-]+)`", text))
    assert not sorted(name for name in named if not (REPOSITORY / name).exists())
