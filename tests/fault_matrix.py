"""The fault matrix of docs/reliability.md, from the tests that are marked with the fault they prove.

Run as ``python tests/fault_matrix.py > docs/reliability.md``. A mark is
``@pytest.mark.fault("where it strikes", "what goes wrong", "what happens then")``: what happens is what the test
asserts, and no more. The tests are read and not imported, so that this needs neither torch nor the peers' programs.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent

PLACES = {
    "reception": "What arrives: data sets and series",
    "peers": "Who connects, and how",
    "spool": "The spool",
    "processing": "From a closed series to its derived instances",
    "delivery": "Destinations",
    "machine": "The machine: kills, stops, databases, clocks, housekeeping",
}
"""Where faults strike, in the order of the document."""

NOT_TESTED = (
    "**Slices missing at an end** of a series, where no peer is asked what there is: nothing can tell.",
    "**A kill or a power cut inside SQLite.** The commits of the workflow database are points at which the program is "
    "killed, what SQLite writes in them is not. DBOS leaves its settings alone: a rollback journal and "
    "`PRAGMA synchronous` FULL, with which a power cut can undo the last commit; that is tested.",
    "**File systems.** A power cut is played by leaving only what was synced; that a rename is one act, and that the "
    "disk keeps what it was asked to sync, is taken for granted, as ext4, XFS and Btrfs promise it.",
)
"""What could go wrong and has no test."""

HEAD = """# Faults, and what happens then

Each line is proved by the test it names, which holds the text, as `@pytest.mark.fault(...)`. This page is generated:

```
python tests/fault_matrix.py > docs/reliability.md
```

`tests/test_fault_matrix.py` fails when it is not what the tests say. Tests in `tests/system` run the whole program with
DCMTK as the sender; they are skipped where DCMTK is not installed.

## What has no test
"""


class WrongMarkError(ValueError):
    """A mark is not of three texts that are there, or the place is none of :data:`PLACES`."""


@dataclass(frozen=True, order=True)
class Fault:
    """What goes wrong where, and what happens then."""

    place: str
    what: str
    then: str


def marked_faults(tests: Path = TESTS) -> Iterator[tuple[Fault, Path, str]]:
    """Every mark below a folder of tests, in the order of the files, with the test's file and name.

    Raises
    ------
    WrongMarkError
        A mark cannot be used; the message names the test.
    """
    for path in sorted(tests.rglob("test_*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                for decorator in function.decorator_list:
                    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.fault":
                        yield _fault(decorator, f"{path}::{function.name}"), path, function.name


def _fault(mark: ast.Call, test: str) -> Fault:
    try:
        fault = Fault(*(ast.literal_eval(argument) for argument in mark.args))
    except (TypeError, ValueError) as error:
        raise WrongMarkError(f"{test}: the mark must have three texts: place, fault, what happens") from error
    if fault.place not in PLACES or not fault.what or not fault.then or "|" in fault.what + fault.then:
        raise WrongMarkError(f"{test}: no text may be empty or hold a bar, and the place is one of {', '.join(PLACES)}")
    return fault


def reliability_page() -> str:
    """The text of docs/reliability.md."""
    tests: dict[Fault, list[str]] = {}
    for fault, path, name in marked_faults():
        link = f"[`{name}`](../{path.relative_to(TESTS.parent).as_posix()})"
        tests.setdefault(fault, []).append(link)
    lines = [HEAD, *(f"- {each}" for each in NOT_TESTED)]
    for place, title in PLACES.items():
        lines += ["", f"## {title}", "", "| fault | what happens | test |", "|---|---|---|"]
        lines += [
            f"| {fault.what} | {fault.then} | {', '.join(names)} |"
            for fault, names in tests.items()
            if fault.place == place
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reliability_page())
