"""The demonstration from beginning to end: get, simulate, start, push, wait, stop, measure, draw."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from iscl_node.demo.archive import HOST, ArchiveKind, running_archive
from iscl_node.demo.delivery import wait_for_delivery
from iscl_node.demo.failure import DemoError
from iscl_node.demo.head_ct import HeadCt, obtain_head_ct
from iscl_node.demo.measure import MeanHu, Quality, mean_hu, measure
from iscl_node.demo.narrator import Narrator, Stage, Stopwatch
from iscl_node.demo.node import NODE_AE_TITLE, SENDER_AE_TITLE, Work, running_node
from iscl_node.demo.report import slice_to_show, write_report
from iscl_node.demo.series_files import Volume, read_volume, series_uid, write_normal_dose
from iscl_node.demo.workplace import Workplace, free_port, open_workplace
from iscl_node.domain import Peer
from iscl_node.metrics import Metrics
from iscl_node.network.scu.storage_scu import send
from iscl_node.offline import RefusedSeries, WrittenInstance, simulate_folder

_SEED = 0
_PROCESSES = 2

Source = Callable[[Path, Callable[[str], None]], HeadCt]
"""Gets a head CT, with a folder for downloads and a narrator."""


@dataclass(frozen=True)
class Options:
    """What ``iscl-node demo`` is asked for.

    Parameters
    ----------
    folder : Path
        For everything the demonstration makes.
    archive : ArchiveKind
        Which archive takes the derived series.
    dose : float
        Of the low-dose series, as a fraction of the normal dose.
    slices : int, optional
        How many, from the middle; None takes all.
    """

    folder: Path
    archive: ArchiveKind
    dose: float
    slices: int | None = None


Keep = Callable[["Demonstrated", str], None]
"""Called with what came of it and the address of the series on the node's page; node and archive run until it ends."""


@dataclass(frozen=True)
class Demonstrated:
    """What came of it.

    Parameters
    ----------
    slices : int
        How many the series has; the derived one has as many.
    dose : float
        Of the low-dose series, as a fraction of the normal dose.
    stages : tuple of Stage
        In their order.
    work : Work
        What the node did.
    normal_mean : MeanHu
        Of the normal dose.
    before, after : Quality
        The low dose and the denoised series, both against the normal dose.
    workplace : Workplace
        Where everything lies.
    """

    slices: int
    dose: float
    stages: tuple[Stage, ...]
    work: Work
    normal_mean: MeanHu
    before: Quality
    after: Quality
    workplace: Workplace


def demonstrate(
    options: Options, narrator: Narrator, source: Source = obtain_head_ct, keep: Keep | None = None
) -> Demonstrated:
    """Run the demonstration; all that it starts is stopped when it returns or raises.

    Raises
    ------
    ConfigurationError
        If the folder holds something else, or Orthanc is asked for and not installed.
    DemoError
        If it fails on the way, or the derived series is incomplete.
    RetryLaterError, QuarantineSeriesError
        If the node does not take the series.
    """
    workplace = open_workplace(options.folder)
    watch = Stopwatch(narrator)
    with watch.stage("get a real head CT"):
        head = source(workplace.downloads, narrator.note).middle(options.slices)
    narrator.note(f"{len(head.volume_hu)} slices: {head.origin}")
    with watch.stage("make a DICOM series of it"):
        write_normal_dose(head, workplace.normal_dose)
    with watch.stage(f"simulate {100 * options.dose:g}% of the dose"):
        _simulate(workplace, options.dose, narrator)
    with _library_logs_in(workplace.log), ExitStack() as started:
        work, page = _through_the_node(options.archive, workplace, watch, narrator, started)
        if keep is None:
            narrator.progress("stop the node and the archive")
            started.close()
        shown = _measured(options, workplace, watch, head.origin, work)
        if keep is not None:
            keep(shown, page)
    return shown


def _measured(options: Options, workplace: Workplace, watch: Stopwatch, origin: str, work: Work) -> Demonstrated:
    with watch.stage("measure"):
        normal, low, denoised = volumes = _volumes(workplace)
        before, after = measure(low, normal), measure(denoised, normal)
    with watch.stage("draw the report"):
        _draw(workplace, origin, volumes)
    return Demonstrated(
        len(normal), options.dose, watch.stages, work, mean_hu(normal, normal), before, after, workplace
    )


def _simulate(workplace: Workplace, dose: float, narrator: Narrator) -> None:
    written = 0
    for outcome in simulate_folder(workplace.normal_dose, workplace.low_dose, dose, _SEED, _PROCESSES):
        if isinstance(outcome, WrittenInstance):
            written += 1
            narrator.progress(f"low dose: {written} slices")
        elif isinstance(outcome, RefusedSeries):
            raise DemoError(f"the simulation refused the series: {outcome.reason}")


def _through_the_node(
    kind: ArchiveKind, workplace: Workplace, watch: Stopwatch, narrator: Narrator, started: ExitStack
) -> tuple[Work, str]:
    """Push the low-dose series through the node into the archive, and take the derived series out of the archive."""
    metrics = Metrics(CollectorRegistry())
    node_peer, http_port = Peer("node", NODE_AE_TITLE, HOST, free_port()), free_port()
    files = sorted(workplace.low_dose.rglob("*.dcm"))
    with watch.stage(f"start the archive ({kind.value}) and the node"):
        archive = started.enter_context(running_archive(kind, workplace, node_peer, metrics))
        node = started.enter_context(running_node(workplace, node_peer, http_port, archive.peer))
    with watch.stage("push by C-STORE"):
        send(node_peer, SENDER_AE_TITLE, files, metrics)
    with watch.stage("denoise and send to the archive"):
        work = wait_for_delivery(node, archive, len(files), narrator)
        archive.fetch()
    return work, f"{node.url}/series/{series_uid(files[0])}"


def _volumes(workplace: Workplace) -> tuple[Volume, Volume, Volume]:
    """The normal dose, the low dose and the derived series; each (S, H, W), float32 HU."""
    normal, low, denoised = map(read_volume, (workplace.normal_dose, workplace.low_dose, workplace.archive))
    if not normal.shape == low.shape == denoised.shape:
        raise DemoError(f"the series differ in size: {normal.shape}, {low.shape} and, derived, {denoised.shape}")
    return normal, low, denoised


def _draw(workplace: Workplace, origin: str, volumes: Sequence[Volume]) -> None:
    number = slice_to_show(volumes[0])
    title = f"Slice {number + 1} of {len(volumes[0])}, {origin}. Research software, not for diagnosis."
    normal, low, denoised = (volume[number] for volume in volumes)
    write_report(workplace.report, normal, low, denoised, title)


@contextmanager
def _library_logs_in(path: Path) -> Iterator[None]:
    """Keep what the rooms log in this process off the terminal, in a file."""
    before = structlog.get_config()
    with path.open("w", encoding="utf-8") as file:
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(file), cache_logger_on_first_use=False)
        try:
            yield
        finally:
            structlog.configure(**before)
