"""What the commands share: the terminal, exit codes, options, and how an error is printed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from iscl_node.errors import ConfigurationError, IsclNodeError, StartAgainError

out = Console()
err = Console(stderr=True)

WRONG = 2
FAILED = 1
START_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h."""

Config = Annotated[Path, typer.Option("--config", help="Settings file (TOML).", envvar="ISCL_NODE_CONFIG")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_CONFIG = Path("config/iscl-node.toml")


@contextmanager
def reported() -> Iterator[None]:
    """Turn our own errors into one clear message and an exit code."""
    try:
        yield
    except ConfigurationError as error:
        err.print(f"[red]error[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(WRONG) from error
    except StartAgainError as error:
        err.print(f"[red]stopped[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(START_AGAIN) from error
    except IsclNodeError as error:
        err.print(f"[red]failed[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(FAILED) from error
