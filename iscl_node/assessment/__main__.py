"""``python -m iscl_node.assessment DATA OUT``: the gate that weights must pass."""

import argparse
import sys
from pathlib import Path
from typing import Final

from iscl_node.assessment.cases import Case, find_cases, patients_for
from iscl_node.assessment.gate import Plan, Real, measure
from iscl_node.assessment.methods import Strength, method_of
from iscl_node.assessment.stack import find_stacks
from iscl_node.dicom.reading.folder import Instance, read_folder
from iscl_node.domain.strength import TARGET_NOISE_HU
from iscl_node.errors import ConfigurationError
from iscl_node.settings import INSTALLED_BUNDLE
from iscl_node.settings.rules import strength_choices

PHANTOM_SLICES: Final = 8


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m iscl_node.assessment", description=__doc__)
    parser.add_argument("data", type=Path, help="folder of DICOM files; the patients of the list are looked for")
    parser.add_argument("out", type=Path, help="folder for tables and pictures")
    parser.add_argument("--use", choices=("test", "phantoms", "validation"), default="test", help="which patients")
    parser.add_argument("--patients", nargs="+", default=[], help="these instead of the list")
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="NAME=BUNDLE[:PROFILE]",
        help="a bundle's folder, or MODULE:CALLABLE that gives a denoiser; several times",
    )
    parser.add_argument("--slices", type=int, default=2, help="of each patient and kernel")
    parser.add_argument("--doses", type=float, nargs="+", default=[0.5, 0.25, 0.1])
    parser.add_argument("--strengths", nargs="+", default=["auto", "mild", "strong", "0.3", "0.5", "0.6", "0.8", "1"])
    parser.add_argument("--target-noise-hu", type=float, default=TARGET_NOISE_HU, help="of strength auto")
    parser.add_argument("--draws", type=int, default=4, help="of the noise, at least 2")
    parser.add_argument("--no-classical", action="store_true", help="without non-local means and total variation")
    parser.add_argument(
        "--fast", action="store_true", help="one slice each, a quarter of the dose, 2 draws, no classical"
    )
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _plan(given: argparse.Namespace) -> Plan:
    choices = strength_choices(given.strengths, given.target_noise_hu)
    strengths = tuple(map(Strength, given.strengths, choices))
    if given.fast:
        return Plan((0.25,), strengths, 2, classical=False)
    return Plan(tuple(given.doses), strengths, max(given.draws, 2), not given.no_classical)


def _real(data: Path) -> Real:
    """What of the data is measured as it came; of the phantoms up to eight slices each."""
    lists = {use: patients_for(INSTALLED_BUNDLE, use) for use in ("low_dose", "phantoms", "test")}
    low_dose = _cases_if_any(data, lists["low_dose"], 2)
    phantoms: dict[str, list[Case]] = {}
    for case in _cases_if_any(data, lists["phantoms"], PHANTOM_SLICES):
        phantoms.setdefault(case.patient, []).append(case)
    series = read_folder(data).series.values()
    wanted = [each for each in series if _names(data, each[0]) & (lists["phantoms"] | lists["test"])]
    return Real(tuple(low_dose), phantoms, tuple(find_stacks(wanted)))


def _cases_if_any(data: Path, patients: frozenset[str], slices: int) -> list[Case]:
    try:
        return list(find_cases(data, patients, slices))
    except ConfigurationError:
        return []


def _names(data: Path, instance: Instance) -> set[str]:
    return {str(instance.get("PatientID", "")), *Path(str(instance.filename)).relative_to(data).parts}


def main() -> int:
    """Measure; exit code 2 if it cannot be done."""
    given = arguments()
    try:
        plan = _plan(given)
        methods = [method_of(each) for each in given.method or [f"node={INSTALLED_BUNDLE}"]]
        patients = frozenset(given.patients) or patients_for(INSTALLED_BUNDLE, given.use)
        cases = find_cases(given.data, patients, 1 if given.fast else given.slices)
        real = Real() if given.patients or given.use != "test" else _real(given.data)
        text = measure(cases, methods, plan, given.out, _say, real)
    except ConfigurationError as error:
        _say(f"error: {error}")
        return 2
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
