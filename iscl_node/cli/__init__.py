"""The commands: the only place that prints.

Exit code 0 on success, 1 if the work failed, 2 on wrong usage or settings.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from iscl_node import __version__, logs
from iscl_node.cli import devices
from iscl_node.cli.assessing import assess
from iscl_node.cli.checking import check
from iscl_node.cli.demo import demo
from iscl_node.cli.fetch import fetch
from iscl_node.cli.passwords import password
from iscl_node.cli.progress import Progress
from iscl_node.cli.spool import close, export, lookup, redo, release, requeue, resend
from iscl_node.cli.status import status
from iscl_node.cli.terminal import DEFAULT_CONFIG, FAILED, Config, err, out, reported
from iscl_node.denoise.allocator import keep_freed_memory
from iscl_node.domain import OutputSyntax
from iscl_node.domain.strength import TARGET_NOISE_HU
from iscl_node.errors import ConfigurationError
from iscl_node.settings import INSTALLED_BUNDLE, QualitySettings, Role, Settings, load_settings, spool_memory
from iscl_node.settings.derived import DerivedSettings, checked_suffix
from iscl_node.settings.rules import strength_choices

if TYPE_CHECKING:
    from iscl_node.domain import QualityLimits, Site
    from iscl_node.offline import Outcome

app = typer.Typer(
    name="iscl-node",
    help="Denoises low-dose CT series with ISCL, as a DICOM node or on folders. Research software, not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, password, status, fetch, lookup, close, requeue, redo, resend, release, export, check, assess):
    app.command()(command)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Show the version."""
    if version:
        out.print(__version__, highlight=False)
        raise typer.Exit
    logs.configure()


@app.command()
def serve(
    config: Config = DEFAULT_CONFIG,
    role: Annotated[Role | None, typer.Option(help="In place of that of the settings.")] = None,
    device: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the node: receive, denoise, send back, until SIGTERM."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the node takes signals itself
    keep_freed_memory()
    with reported():
        settings = load_settings(config, {"role": role} if role else None)
        if device is not None:
            devices.end_with_parent()
            settings = devices.of_device(settings, device)
        elif settings.bundle.devices and settings.role != "receive":
            _serve_devices(settings, config)
            return
        _serve(settings, config)


def _serve(settings: Settings, config: Path) -> None:
    from iscl_node.service import Node

    Node(settings, spool_memory(config)).run()


def _serve_devices(settings: Settings, config: Path) -> None:
    """Receive here, if this node does that, and work in a process for each device."""
    processes = devices.DeviceProcesses(config, len(settings.bundle.devices))
    processes.start()
    try:
        if settings.role == "all":
            _serve(devices.of_parent(settings), config)
        else:
            devices.wait_for_the_end()
    finally:
        processes.stop()


@app.command()
def init(config: Config = DEFAULT_CONFIG) -> None:
    """Make the spool of the settings, or take the one that is there in place of one that was used before."""
    from iscl_node.cli.users import check_maker
    from iscl_node.store.identity import adopt

    with reported():
        settings = load_settings(config)
        check_maker(settings.spool_dir, "init")
        identity = adopt(settings.spool_dir, spool_memory(config), __version__)
        if settings.has_postgresql:
            from iscl_node.pipeline.engine.census import adopt_spool

            adopt_spool(settings.database_url, identity)
    out.print(f"spool {identity} in {settings.spool_dir}", highlight=False, soft_wrap=True)


@app.command()
def denoise(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of DICOM files.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for the derived series.")],
    bundle: Annotated[Path, typer.Option(help="Folder of the MONAI bundle.")] = INSTALLED_BUNDLE,
    profile: Annotated[str, typer.Option(help="full (all HU), or the HU window abdomen or chest.")] = "full",
    strength: Annotated[
        list[str],
        typer.Option(
            help="auto: so that --target-noise-hu is left; mild, standard, strong: 14, 10 or 7 HU; or the share of the "
            "noise that is removed, 0 to 1. Given several times, each makes a series."
        ),
    ] = ["auto"],  # noqa: B006 - typer's way to a default of several values
    target_noise_hu: Annotated[
        float, typer.Option(help="Noise that a derived series is to have with strength auto, HU.")
    ] = TARGET_NOISE_HU,
    suffix: Annotated[str, typer.Option(help="Appended to the Series Description.")] = " AI denoised",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    transfer_syntax: Annotated[
        OutputSyntax,
        typer.Option(help="Explicit VR Little Endian, or compressed as the source where that is lossless."),
    ] = "explicit",
    noise_map: Annotated[bool, typer.Option("--noise-map", help="Also write what was removed, in HU.")] = False,
    noise_ct: Annotated[bool, typer.Option("--noise-ct", help="The same as plain CT.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Also write how good it is, as a structured report.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="Settings file (TOML), for \\[quality] and \\[derived]; else the defaults.")
    ] = None,
) -> None:
    """Denoise the CT series of a folder."""
    keep_freed_memory()
    from iscl_node.domain import EvidenceChoice
    from iscl_node.offline import Denoising, denoise_folder

    with reported():
        _check_suffix(suffix)
        evidence = EvidenceChoice("ct" if noise_ct else noise_map, report)
        strengths = strength_choices(strength, target_noise_hu)
        denoising = Denoising(bundle, profile, strengths, suffix, device, transfer_syntax, evidence, *_of_site(config))
        _write_all(denoise_folder(source, target, denoising))


def _of_site(config: Path | None) -> "tuple[QualityLimits, Site]":
    """What a settings file, or else the defaults, say of the judge and of every derived instance."""
    settings = load_settings(config) if config else None
    quality, derived = (settings.quality, settings.derived) if settings else (QualitySettings(), DerivedSettings())
    return quality.limits(), derived.site(ae_title="")


def _check_suffix(suffix: str) -> None:
    try:
        checked_suffix(suffix)
    except ValueError as error:
        raise ConfigurationError(f"--suffix is {suffix!r}: {error}") from error


@app.command()
def simulate(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of normal-dose DICOM files.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for the low-dose copy.")],
    dose: Annotated[float, typer.Option(help="Fraction of the source's dose, above 0 and at most 1.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same noise.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Make a low-dose copy of the CT series of a folder, for training and tests."""
    from iscl_node.offline import simulate_folder

    with reported():
        if not 0 < dose <= 1:
            raise ConfigurationError(f"--dose is {dose}; it is a fraction above 0 and at most 1")
        _write_all(simulate_folder(source, target, dose, seed, workers))


def _write_all(outcomes: "Iterator[Outcome]") -> None:
    """Follow the work, print what was refused, and fail if a series was refused, or nothing was there to be made."""
    from iscl_node.offline import ExpectedInstances, FinishedSeries, IgnoredSeries, RefusedSeries, WrittenInstance

    written, counts = 0, Counter[type]()
    with Progress(err) as progress:
        for outcome in outcomes:
            match outcome:
                case ExpectedInstances(change):
                    progress.expect(change)
                case WrittenInstance():
                    progress.advance()
                case FinishedSeries(instances):
                    written += instances
                case other:
                    counts[type(other)] += 1
                    _tell(other)
    refused, ignored = counts[RefusedSeries], counts[IgnoredSeries]
    out.print(f"{written} instances written, {refused} series refused, {ignored} ignored", highlight=False)
    if refused or not (written or ignored):
        raise typer.Exit(FAILED)


def _tell(outcome: "Outcome") -> None:
    """Print what was not made, and why."""
    from iscl_node.dicom.reading.folder import SkippedFile
    from iscl_node.offline import IgnoredSeries, Note, RefusedSeries

    match outcome:
        case RefusedSeries(series_uid, reason):
            err.print(f"[red]refused[/red] series {series_uid}: {escape(reason)}", soft_wrap=True)
        case IgnoredSeries(series_uid, reason):
            err.print(f"[yellow]ignored[/yellow] series {series_uid}: {escape(reason)}", soft_wrap=True)
        case Note(series_uid, text):
            err.print(f"series {series_uid}: {escape(text)}", soft_wrap=True)
        case SkippedFile():
            name = escape(str(outcome.path))
            err.print(f"[yellow]skipped[/yellow] {name}: {escape(outcome.reason)}", soft_wrap=True)


@app.command()
def echo(
    host: Annotated[str, typer.Argument(help="Host name or address.")],
    port: Annotated[int, typer.Argument(min=1, max=65535)],
    called: Annotated[str, typer.Option(help="AE title of the peer.")] = "ANY-SCP",
    calling: Annotated[str, typer.Option(help="Our AE title.")] = "ISCL_NODE",
    tls: Annotated[
        tuple[Path, Path, Path] | None,
        typer.Option(metavar="CERTIFICATE KEY CA", help="Call it with TLS: three PEM files, as in \\[scp.tls]."),
    ] = None,
) -> None:
    """Verify a peer by C-ECHO."""
    from iscl_node.domain import Peer, Tls
    from iscl_node.network.scu.verification import echo as verify

    with reported():
        seconds = verify(Peer("peer", called, host, port, tls=None if tls is None else Tls(*tls)), calling)
    out.print(f"{called} at {host}:{port} answers in {seconds * 1000:.0f} ms", highlight=False)


@app.command()
def conformance(
    output: Annotated[Path | None, typer.Option(help="File to write; without it the statement is printed.")] = None,
) -> None:
    """Write the DICOM Conformance Statement of this version (PS3.2)."""
    from iscl_node.conformance.statement import conformance_statement

    text = conformance_statement()
    with reported():
        if output is None:
            print(text, end="")  # noqa: T201 - a document
            return
        try:
            output.write_text(text)
        except OSError as error:
            raise ConfigurationError(f"--output {output} cannot be written: {error.strerror}") from error
