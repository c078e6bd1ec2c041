"""Whose spool it is: a command that another user runs would leave files that the node cannot use."""

import os
from pathlib import Path

from iscl_node.errors import ConfigurationError
from iscl_node.store.identity import owner_name

_ROOT = 0


def check_user(root: Path, command: str, *, changes: bool) -> None:
    """Raise unless this user may work on a spool without harm.

    Parameters
    ----------
    root : Path
        The folder of the spool.
    command : str
        What is run, for the message.
    changes : bool
        Whether it writes. Root, which may write anywhere, would leave files of its own.

    Raises
    ------
    ConfigurationError
        Another user is to run it; the message names whom.
    """
    try:
        owner = root.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"{root} cannot be reached: {error.strerror}; run this as the node's user") from error
    user = os.geteuid()
    may = os.access(root, os.R_OK | os.X_OK | (os.W_OK if changes else 0))
    if user == owner or (may and not (user == _ROOT and changes)):
        return
    name = owner_name(root)
    raise ConfigurationError(f"{root} belongs to user {name}: run this as {name}: sudo -u {name} iscl-node {command}")


def check_maker(root: Path, command: str) -> None:
    """Raise unless this user may make a spool, or take one, that the node can use: root must not, in another's folder.

    Raises
    ------
    ConfigurationError
        Another user is to do it; the message names whom.
    """
    place = next(each for each in (root, *root.absolute().parents) if each.exists())
    if place == root or os.geteuid() == _ROOT:
        check_user(place, command, changes=True)
