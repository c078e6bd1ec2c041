"""``iscl-node demo``."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status

from iscl_node.cli.terminal import err, out, reported
from iscl_node.errors import ConfigurationError

if TYPE_CHECKING:
    from iscl_node.demo.demonstration import Demonstrated


def demo(
    folder: Annotated[Path, typer.Option(help="For everything the demo makes and downloads.")] = Path("demo"),
    archive: Annotated[str, typer.Option(envvar="ARCHIVE", help="embedded or orthanc.")] = "embedded",
    dose: Annotated[
        float,
        typer.Option(
            help="Of the low-dose series: a fraction, above 0 and below 1. A head attenuates little: 0.02 gives "
            "about 25 HU of noise in the brain, as much as a quarter of the dose in an abdomen."
        ),
    ] = 0.02,
    slices: Annotated[int | None, typer.Option(min=1, help="Only so many, from the middle of the head.")] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the node running at the end, with its page, until Ctrl-C.")
    ] = False,
) -> None:
    """Send a real head CT at low dose through a node of its own into an archive, and measure what came back."""
    from iscl_node.demo.archive import ArchiveKind
    from iscl_node.demo.demonstration import Options, demonstrate
    from iscl_node.demo.tables import quality_table, stage_table

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is stopped
    with reported(), err.status("demo") as shown:
        if archive not in set(ArchiveKind):
            raise ConfigurationError(f"--archive is {archive!r}; it is {' or '.join(ArchiveKind)}")
        if not 0 < dose < 1:
            raise ConfigurationError(f"--dose is {dose}; it is a fraction above 0 and below 1")

        def tell(result: "Demonstrated") -> None:
            out.print(stage_table(result), quality_table(result))
            out.print(f"derived series: {result.workplace.archive}", highlight=False, soft_wrap=True)
            out.print(f"report: {result.workplace.report}", highlight=False, soft_wrap=True)

        def tell_and_wait(result: "Demonstrated", page: str) -> None:
            shown.stop()
            tell(result)
            _wait_at(page)

        options = Options(folder, ArchiveKind(archive), dose, slices)
        result = demonstrate(options, _Terminal(shown), keep=tell_and_wait if keep else None)
    if not keep:
        tell(result)


def _wait_at(page: str) -> None:
    """Name a page, open it where there is a desktop, and wait for Ctrl-C."""
    out.print(f"before and after: {page}  (Ctrl-C ends the node)", highlight=False, soft_wrap=True)
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin":
        typer.launch(page)
    with suppress(KeyboardInterrupt):
        signal.pause()


class _Terminal:
    """Shows on the terminal what the demo reports."""

    def __init__(self, shown: Status) -> None:
        self._shown = shown

    def note(self, text: str) -> None:
        """Print a line."""
        err.print(text, highlight=False, soft_wrap=True, markup=False)

    def progress(self, text: str) -> None:
        """Change the line that moves."""
        self._shown.update(text)
