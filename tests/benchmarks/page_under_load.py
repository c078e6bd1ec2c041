"""The page of a node with very many series, and what it costs reception that ten browsers look; prints both.

Run: ``make bench-page``, or ``PYTHONPATH=.:tests:tests/system python tests/benchmarks/page_under_load.py [SERIES]
[ROUNDS]``; DCMTK's storescu sends. A real node in a process of its own holds so many ignored series. In turn with and
without ten browsers, which do what the page's script does (load it once, ask for changes every two seconds), instances
of 512 x 512 pixels are sent.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
from factories import ROOT, ct_dataset, part10
from node import free_port, wait_for
from required_tools import required_tool

_BROWSERS = 10
_INSTANCES = 60
_LOOK_SECONDS = 20
_PAGES = ("/", "/rows", "/?q=benchmark&page=3", "/?q=nothing+of+that+kind", "/?step=ignored", "/quarantine")
_SETTINGS = """\
spool_dir = "{folder}/spool"
[scp]
host = "127.0.0.1"
port = {port}
quiet_seconds = 600
accept_unknown_peers = true
[http]
port = {http_port}
[spool]
min_free_bytes = 0
[[rules]]
name = "all"
ignore = "a benchmark"
"""


def fill(spool: Path, count: int) -> None:
    """Series that were ignored, each of one instance."""
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    small = np.zeros((16, 16), np.int16)
    for number in range(count):
        uid = f"{ROOT}.9.{number}"
        key = (begun + timedelta(minutes=number)).strftime("%Y%m%dT%H%M%S.%fZ")
        folder = spool / "ignored" / uid / key
        folder.mkdir(parents=True)
        dataset = ct_dataset(pixels=small, SeriesInstanceUID=uid, SOPInstanceUID=f"{uid}.1")
        (folder / f"{uid}.1.dcm").write_bytes(part10(dataset))
        (folder / "reason.txt").write_text("a benchmark\n")


def get(url: str, etag: str = "") -> tuple[str, float]:
    """The ETag of an answer, and the seconds it took."""
    begun = time.monotonic()
    try:
        with urlopen(Request(url, headers={"If-None-Match": etag} if etag else {}), timeout=60) as answer:
            answer.read()
            return answer.headers.get("ETag", ""), time.monotonic() - begun
    except HTTPError as error:
        if error.code != 304:
            raise
        return etag, time.monotonic() - begun


def browse(url: str, stopped: threading.Event, seconds: list[float]) -> None:
    """What the queue's page does until it is closed."""
    get(f"{url}/")
    etag = ""
    while not stopped.wait(2):
        etag, took = get(f"{url}/rows", etag)
        seconds.append(took)


def files(folder: Path, name: str) -> Path:
    """A series to be sent."""
    target = folder / name
    target.mkdir()
    pixels = np.random.default_rng(0).integers(0, 2000, (512, 512), np.int16)
    uid = f"{ROOT}.8.{abs(hash(name)) % 10**9}"
    for number in range(_INSTANCES):
        dataset = ct_dataset(pixels=pixels, SeriesInstanceUID=uid, SOPInstanceUID=f"{uid}.{number + 1}")
        (target / f"{number}.dcm").write_bytes(part10(dataset))
    return target


def sent_per_second(port: int, folder: Path) -> float:
    """Instances a second over one association."""
    command = [required_tool("storescu"), "+sd", "-aec", "ISCL_NODE", "127.0.0.1", str(port), str(folder)]
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return _INSTANCES / (time.monotonic() - begun)


@contextmanager
def watched_by(url: str, looks: list[float]) -> Iterator[None]:
    """Ten browsers look for the length of a ``with`` block."""
    stopped = threading.Event()
    threads = [threading.Thread(target=browse, args=(url, stopped, looks)) for _ in range(_BROWSERS)]
    for each in threads:
        each.start()
    time.sleep(3)
    try:
        yield
    finally:
        stopped.set()
        for each in threads:
            each.join()


def cpu_seconds(pid: int) -> float:
    """What a process and its threads have computed so far (proc(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def computed(pid: int) -> float:
    """The share of a core that a process takes, over a while."""
    begun, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(_LOOK_SECONDS)
    return (cpu_seconds(pid) - before) / (time.monotonic() - begun)


def at_rest(pid: int, url: str) -> None:
    """What looking costs a node in which nothing happens."""
    looks: list[float] = []
    alone = computed(pid)
    with watched_by(url, looks):
        watched = computed(pid)
    print(f"the node at rest: {100 * alone:.1f} % of a core alone, {100 * watched:.1f} % with {_BROWSERS} browsers")


def rounds(folder: Path, port: int, url: str, count: int) -> None:
    """Send with and without browsers in turn."""
    alone, watched, looks = [], [], []
    for number in range(count):
        alone.append(sent_per_second(port, files(folder, f"alone{number}")))
        with watched_by(url, looks):
            watched.append(sent_per_second(port, files(folder, f"watched{number}")))
        print(f"round {number + 1}: alone {alone[-1]:.1f}, with {_BROWSERS} browsers {watched[-1]:.1f} instances/s")
    print(f"reception: {median(alone):.1f} instances/s alone, {median(watched):.1f} with {_BROWSERS} browsers, "
          f"ratio {median(w / a for w, a in zip(watched, alone, strict=True)):.2f}")  # fmt: skip
    print(f"an update of a browser meanwhile: median {1000 * median(looks):.0f} ms, slowest {1000 * max(looks):.0f} ms")


def main(series: int, count: int) -> None:
    """Fill, start, measure, stop."""
    folder = Path(tempfile.mkdtemp(prefix="page-under-load-"))
    port, http_port = free_port(), free_port()
    (folder / "node.toml").write_text(_SETTINGS.format(folder=folder, port=port, http_port=http_port))
    subprocess.run([sys.executable, "-m", "iscl_node", "init", "--config", str(folder / "node.toml")], check=True)
    fill(folder / "spool", series)
    command = [sys.executable, "-m", "iscl_node", "serve", "--config", str(folder / "node.toml")]
    url = f"http://127.0.0.1:{http_port}"
    with (folder / "node.log").open("wb") as log:
        node = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: _answers(url), "the node answers", seconds=300)
        print(f"the first look: {get(url + '/')[1]:.1f} s")
        for _ in range(series // 200 + 2):  # it reads 200 headers a look
            get(f"{url}/rows")
            time.sleep(0.05)
        looked = [(page, [get(url + page)[1] for _ in range(20)]) for page in _PAGES]
        for page, seconds in looked:
            print(f"{page}: median {1000 * median(seconds):.0f} ms, slowest of 20 {1000 * max(seconds):.0f} ms")
        at_rest(node.pid, url)
        rounds(folder, port, url, count)
    finally:
        node.terminate()
        node.wait()
        shutil.rmtree(folder)


def _answers(url: str) -> bool:
    try:
        return bool(get(f"{url}/healthz"))
    except OSError:
        return False


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:]]
    main(*(numbers + [10000, 5][len(numbers) :]))
