"""Refuse misspelt arguments: ``monai.bundle run`` itself accepts any name in silence."""

import difflib
import functools
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fire.parser import DefaultParseValue

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

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

FLAG = re.compile(r"--?(?P<name>[A-Za-z][^=]*)")
"""What Fire takes for the name of an argument; ``-1`` is a value."""


def check_arguments(
    bundle_root: str,
    configs: Sequence[str],
    folders: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    at_least: Mapping[str, Sequence[float]] | None = None,
    one_of: Mapping[str, Sequence[Any]] | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Check names and values of the arguments before anything is read.

    On the command line of ``python -m monai.bundle`` a mistake ends the program with one clear line.

    Parameters
    ----------
    bundle_root : str
        Folder of the bundle.
    configs : sequence of str
        Names of the files in ``configs/`` whose keys may be overridden.
    folders : mapping of str to str
        Arguments that must name a folder.
    files : mapping of str to str
        Arguments that must name a file.
    at_least : mapping of str to (float, float)
        Arguments with a lower bound: value and bound.
    one_of : mapping of str to (value, sequence)
        Arguments with a choice: value and all that there are.
    argv : sequence of str, optional
        Command line; by default that of ``python -m monai.bundle``, nothing in other programs.

    Raises
    ------
    ValueError
        If a name is unknown (the message proposes the nearest) or a value impossible.
    """
    of_program = argv is None and on_command_line()
    try:
        _check_names(sys.argv if of_program else argv or (), bundle_root, configs)
        _check_paths(folders or {}, files or {})
        _check_bounds(at_least or {})
        _check_choices(one_of or {})
    except ValueError as error:
        if of_program:
            sys.exit(f"error: {error}")
        raise


def check_path_names(argv: Sequence[str] | None = None) -> None:
    """Check that the paths on the command line are taken as they are written.

    Fire reads a value as Python where it can (``20260102``, ``[1]``, ``head#2``), and the configuration takes ``$`` and
    ``@`` at its start for its own. On the command line of ``python -m monai.bundle`` that ends the program with one
    line. A name that begins with ``%`` is looked for before any code of the bundle runs.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of ``python -m monai.bundle``, nothing in other programs.

    Raises
    ------
    ValueError
        If one is not.
    """
    of_program = argv is None and on_command_line()
    for name, value in _paths_on(sys.argv if of_program else argv or ()):
        if value[:1] in ("$", "@", "%") or DefaultParseValue(value) != value:
            told = f"--{name} {value} would be taken for something else than a name; write ./{value}"
            if of_program:
                sys.exit(f"error: {told}")
            raise ValueError(told)


def _paths_on(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The arguments that name a folder, and their values as they are written."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=False):
        flag = FLAG.match(argument)
        if flag and flag["name"].replace("-", "_").endswith("_dir"):
            yield flag["name"], argument.partition("=")[2] if "=" in argument else following


def on_command_line() -> bool:
    """Whether this program is ``python -m monai.bundle``, where a mistake shall be one line and no traceback."""
    return Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py")


def mistakes_in_one_line(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """On the command line of ``python -m monai.bundle`` a ValueError of ``function`` ends the program with one line."""

    @functools.wraps(function)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except ValueError as error:
            if on_command_line():
                sys.exit(f"error: {error}")
            raise

    return checked


def _check_names(argv: Sequence[str], bundle_root: str, configs: Sequence[str]) -> None:
    config: dict[str, Any] = {}
    for name in configs:
        config |= json.loads((Path(bundle_root) / "configs" / name).read_text())
    for argument in argv:
        flag = FLAG.match(argument)
        if flag:
            _check(flag["name"].replace("-", "_").replace("#", "::"), config)
        if argument.rpartition("=")[2] in ("true", "false"):
            raise ValueError(f"{argument} would be taken for text: write True or False")


def _check_paths(folders: Mapping[str, str], files: Mapping[str, str]) -> None:
    for name, folder in folders.items():
        if not folder:
            raise ValueError(f"--{name} is missing; it names a folder")
        if not Path(folder).is_dir():
            raise ValueError(f"--{name}: {folder} is not a folder")
    for name, file in files.items():
        if not Path(file).is_file():
            raise ValueError(f"--{name}: {file} is not a file")


def _check_bounds(at_least: Mapping[str, Sequence[float]]) -> None:
    for name, (value, bound) in at_least.items():
        if value < bound:
            raise ValueError(f"--{name} is {value}, must be at least {bound}")


def _check_choices(one_of: Mapping[str, Sequence[Any]]) -> None:
    for name, (value, choices) in one_of.items():
        if value not in choices:
            raise ValueError(f"--{name} is {value}; there are {', '.join(map(str, choices))}")


def _check(name: str, config: Mapping[str, Any]) -> None:
    if name in RUN_ARGUMENTS or _has_path(name.split("::"), config):
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
