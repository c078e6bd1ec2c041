"""Refuse misspelt arguments: ``monai.bundle run`` itself accepts any name in silence."""

import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RUN_ARGUMENTS = frozenset(
    {
        "run_id",
        "init_id",
        "final_id",
        "meta_file",
        "config_file",
        "logging_file",
        "tracking",
        "args_file",
        "bundle_root",
    }
    | {"tracking_uri", "experiment_name", "run_name", "workflow_type"}
)
"""What ``python -m monai.bundle run`` takes by itself."""


def check_arguments(bundle_root: str, configs: Sequence[str], argv: Sequence[str] | None = None) -> None:
    """Compare the ``--name`` arguments of the command line with the keys of the configs.

    Parameters
    ----------
    bundle_root : str
        Folder of the bundle.
    configs : sequence of str
        Names of the files in ``configs/`` whose keys may be overridden.
    argv : sequence of str, optional
        Command line; the process's own by default.

    Raises
    ------
    ValueError
        If a name is none of them; the message proposes the nearest.
    """
    config: dict[str, Any] = {}
    for name in configs:
        config |= json.loads((Path(bundle_root) / "configs" / name).read_text())
    for argument in sys.argv if argv is None else argv:
        if argument.startswith("--"):
            _check(argument[2:].partition("=")[0].replace("#", "::"), config)


def _check(name: str, config: Mapping[str, Any]) -> None:
    if name in RUN_ARGUMENTS or not name or _has_path(name.split("::"), config):
        return
    known = sorted(RUN_ARGUMENTS | {key for key in config if not key.startswith("_")})
    near = difflib.get_close_matches(name, known, n=1)
    raise ValueError(f"--{name} is no argument of this bundle" + (f"; did you mean --{near[0]}?" if near else ""))


def _has_path(path: Sequence[str], config: Any) -> bool:
    """Whether all but the last key exist; a new last key is allowed inside an object (an argument of its class)."""
    for depth, key in enumerate(path):
        if isinstance(config, Sequence) and not isinstance(config, str) and key.isdigit() and int(key) < len(config):
            config = config[int(key)]
        elif isinstance(config, Mapping) and key in config:
            config = config[key]
        else:
            return depth == len(path) - 1 > 0 and isinstance(config, Mapping)
    return True
