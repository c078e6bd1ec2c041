"""Relative paths of the settings count from the folder of the settings file, wherever the program is started."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from iscl_node.errors import ConfigurationError

_SQLITE = "sqlite:///"
_FOLDER_OF_A_SPOOL = "closed"

_Model = TypeVar("_Model", bound=BaseModel)


def anchored(settings: _Model, folder: Path) -> _Model:
    """Return the settings with absolute paths.

    Parameters
    ----------
    settings : BaseModel
        With ``spool_dir`` and ``database_url``, and paths in any of its tables.
    folder : Path
        Absolute; that of the settings file.

    Raises
    ------
    ConfigurationError
        There is a spool where the path led before, which would be left behind.
    """
    made: _Model = _anchored(settings, folder)
    _check_left_behind(settings.spool_dir, made.spool_dir)  # type: ignore[attr-defined]
    url = settings.database_url  # type: ignore[attr-defined]
    if url.startswith(_SQLITE):
        made = made.model_copy(update={"database_url": f"{_SQLITE}{folder / url.removeprefix(_SQLITE)}"})
    return made


def _anchored(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_anchored(each, folder) for each in value)
    if isinstance(value, BaseModel):
        new = {name: _anchored(getattr(value, name), folder) for name in type(value).model_fields}
        return value.model_copy(update={name: each for name, each in new.items() if each != getattr(value, name)})
    return value


def _check_left_behind(written: Path, spool: Path) -> None:
    """Up to 0.1.0 a relative path counted from the folder in which the program was started."""
    before = Path.cwd() / written
    if before != spool and (before / _FOLDER_OF_A_SPOOL).is_dir() and not spool.exists():
        raise ConfigurationError(
            f"spool_dir {written} counts from the settings file, which makes it {spool}; there is a spool in {before}: "
            f"move it, or set spool_dir to the whole path"
        )
