"""Reception and sending beside DCMTK, Orthanc and plain pynetdicom, in one run and in turn; times and a JSON file.

Run: ``PYTHONPATH=.:tests python tests/benchmarks/wire.py [--instances 200] [--rounds 3] [--json FILE]``; a peer that
is not installed is left out. CT of 512 x 512 int16 over the loopback, TCP_NODELAY on both sides, PDUs of 131072 bytes,
one association. Processor time is told beside the rate, because it hardly depends on what else the machine does.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from factories import ROOT, ct_dataset, part10
from ports import free_port

ENVIRONMENT = os.environ | {"TCP_NODELAY": "1", "OMP_NUM_THREADS": "1"}
PDU = "131072"
HERE = Path(__file__).parent

_SYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
#include <fcntl.h>
int fclose(FILE *f) {
    static int (*real)(FILE *);
    if (!real) real = dlsym(RTLD_NEXT, "fclose");
    int writes = (fcntl(fileno(f), F_GETFL) & O_ACCMODE) != O_RDONLY;
    if (writes) { fflush(f); fsync(fileno(f)); int d = open(".", O_RDONLY); fsync(d); close(d); }
    return real(f);
}
"""
"""Has storescp do what we do before an answer: the file and its folder are on disk. It writes into its own folder."""

_NODE = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from iscl_node.metrics import Metrics
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.pipeline.audit.what_happened import NO_AUDIT
from iscl_node.pipeline.kept_headers import KeptHeaders
from iscl_node.pipeline.reception.receive import reception
from iscl_node.store.spool import Spool
metrics = Metrics(CollectorRegistry())
receive = reception(Spool.open(Path(sys.argv[2]), 0), metrics, NO_AUDIT, KeptHeaders())
StorageScp(ae_title="ANY-SCP", host="127.0.0.1", port=int(sys.argv[1]), peers=[], accept_unknown_peers=True,
           receive=receive, metrics=metrics).start()
sys.stdin.read()
"""

_PYNETDICOM = """
import sys
from pathlib import Path
from pynetdicom import AE, evt
entity = AE("ANY-SCP")
entity.maximum_pdu_size = 131072
for sop_class in ("1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2"):
    entity.add_supported_context(sop_class)
def store(event):
    (Path(sys.argv[2]) / f"{event.request.AffectedSOPInstanceUID}.dcm").write_bytes(event.encoded_dataset())
    return 0
entity.start_server(("127.0.0.1", int(sys.argv[1])), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
sys.stdin.read()
"""

_SEND = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from iscl_node.domain import Peer
from iscl_node.metrics import Metrics
from iscl_node.network.scu.storage_scu import send
peer = Peer("peer", "ANY-SCP", "127.0.0.1", int(sys.argv[1]), may_store=False, may_receive=True)
send(peer, "BENCH", sorted(Path(sys.argv[2]).iterdir()), Metrics(CollectorRegistry()))
"""

_PLAIN_SEND = """
import sys
from pathlib import Path
from pydicom import dcmread
from pynetdicom import AE, build_context
entity = AE("BENCH")
entity.maximum_pdu_size = 131072
context = build_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
association = entity.associate("127.0.0.1", int(sys.argv[1]), contexts=[context], ae_title="ANY-SCP")
for path in sorted(Path(sys.argv[2]).iterdir()):
    assert association.send_c_store(dcmread(path)).Status == 0
association.release()
"""


def make_instances(folder: Path, count: int) -> None:
    """A series on disk."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(-1000, 1000, (512, 512)).astype(np.int16)
    for number in range(count):
        dataset = ct_dataset(pixels=pixels, SeriesInstanceUID=f"{ROOT}.5", SOPInstanceUID=f"{ROOT}.5.{number}")
        (folder / f"{number:05}.dcm").write_bytes(part10(dataset))


def processor_seconds(process: int) -> float:
    """Used so far (proc(5))."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mebibytes(process: int) -> float:
    """The most memory it ever had (proc(5))."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


Receiver = Callable[[int, Path], tuple[list[str], dict[str, str]]]
"""The command of a receiver, and what it needs in its environment, by its port and folder."""


def receivers(folder: Path) -> dict[str, Receiver]:
    """Those that are installed."""
    python = sys.executable
    found: dict[str, Receiver] = {
        "iscl-node (fsync)": lambda port, into: ([python, "-c", _NODE, str(port), str(into)], {}),
        "pynetdicom": lambda port, into: ([python, "-c", _PYNETDICOM, str(port), str(into)], {}),
    }
    if shutil.which("storescp"):
        storescp = ["storescp", "+B", "-pdu", PDU]
        found["storescp"] = lambda port, into: ([*storescp, str(port)], {})
        library = folder / "sync.so"
        if shutil.which("cc"):
            compile_ = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
            subprocess.run(compile_, input=_SYNC, text=True, check=True)
            found["storescp (fsync)"] = lambda port, into: ([*storescp, str(port)], {"LD_PRELOAD": str(library)})
    if shutil.which("Orthanc"):
        found["Orthanc"] = _orthanc
    return found


def _orthanc(port: int, into: Path) -> tuple[list[str], dict[str, str]]:
    settings = {
        "DicomAet": "ANY-SCP",
        "DicomPort": port,
        "HttpServerEnabled": False,
        "DicomAlwaysAllowStore": True,
        "StorageDirectory": str(into),
        "IndexDirectory": str(into),
        "Plugins": [],
    }
    (into / "orthanc.json").write_text(json.dumps(settings))
    return ["Orthanc", str(into / "orthanc.json")], {}


@contextmanager
def running(receiver: Receiver, folder: Path) -> Iterator[tuple[int, int]]:
    """Run a receiver for the length of a ``with`` block; its port and process."""
    port = free_port()
    folder.mkdir()
    command, more = receiver(port, folder)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder, env=ENVIRONMENT | more, **quiet) as process:  # type: ignore[call-overload]
        try:
            until = time.monotonic() + 60
            echo = ["echoscu", "-aec", "ANY-SCP", "127.0.0.1", str(port)]
            while subprocess.run(echo, check=False, env=ENVIRONMENT, **quiet).returncode:  # type: ignore[call-overload]
                assert time.monotonic() < until, f"not ready: {command}"
                time.sleep(0.1)
            yield port, process.pid
        finally:
            process.kill()


def senders() -> dict[str, Callable[[int, Path], list[str]]]:
    """Commands that send a folder."""
    python = sys.executable
    found: dict[str, Callable[[int, Path], list[str]]] = {
        "iscl-node": lambda port, source: [python, "-c", _SEND, str(port), str(source)],
        "pynetdicom": lambda port, source: [python, "-c", _PLAIN_SEND, str(port), str(source)],
    }
    for name, options in {
        "storescu": ["+sd", "-pdu", PDU, "--max-send-pdu", PDU],
        "dcmsend": ["+sd", "-pdu", PDU],
    }.items():
        if shutil.which(name):
            found[name] = lambda port, source, name=name, options=options: [  # type: ignore[misc]
                name, *options, "-aec", "ANY-SCP", "127.0.0.1", str(port), str(source)
            ]  # fmt: skip
    return found


def sent(command: list[str], count: int) -> dict[str, float]:
    """Run a sender to its end: instances per second, and its processor milliseconds for each."""
    before, begun = os.times(), time.monotonic()
    subprocess.run(command, check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, after = time.monotonic() - begun, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {"per_second": count / seconds, "cpu_ms": 1000 * used / count}


def one_reception(receiver: Receiver, folder: Path, source: Path, count: int) -> dict[str, float]:
    """Instances per second, the receiver's processor milliseconds for each, and its memory."""
    with running(receiver, folder) as (port, process):
        before = processor_seconds(process)
        figures = sent(senders()["storescu"](port, source), count)
        used = processor_seconds(process) - before
        return figures | {"cpu_ms": 1000 * used / count, "peak_mib": peak_mebibytes(process)}


def one_sending(
    command: Callable[[int, Path], list[str]], port: int, sources: tuple[Path, Path], count: int
) -> dict[str, float]:
    """The same of a sender, without the time of its start: a series less a single instance."""
    one, many = sent(command(port, sources[0]), 1), sent(command(port, sources[1]), count)
    seconds = max(1e-6, count / many["per_second"] - 1 / one["per_second"])
    return {"per_second": (count - 1) / seconds, "cpu_ms": (many["cpu_ms"] * count - one["cpu_ms"]) / (count - 1)}


def table(title: str, rows: dict[str, list[dict[str, float]]], ours: str) -> list[str]:
    """The medians, and each rate as a ratio to ours."""
    middle = {name: {key: median(each[key] for each in rounds) for key in rounds[0]} for name, rounds in rows.items()}
    reference = middle[ours]["per_second"]
    lines = [f"| {title} | per second | to ours | CPU-ms each | peak MiB |", "|---|---|---|---|---|"]
    for name, each in sorted(middle.items(), key=lambda item: -item[1]["per_second"]):
        rate, memory = each["per_second"], f"{each['peak_mib']:.0f}" if "peak_mib" in each else "-"
        lines.append(f"| {name} | {rate:.0f} | {rate / reference:.2f} | {each['cpu_ms']:.2f} | {memory} |")
    return lines


def versions() -> dict[str, str]:
    """Of the peers and the machine."""
    found = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version()}
    for name, option in {"storescp": "--version", "Orthanc": "--version"}.items():
        if shutil.which(name):
            output = subprocess.run([name, option], capture_output=True, text=True, check=False).stdout
            found[name] = next((line for line in output.splitlines() if line.strip()), "").strip("$ ")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    received: dict[str, list[dict[str, float]]] = {}
    given: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        sources = folder / "one", folder / "many"
        make_instances(sources[0], 1)
        make_instances(sources[1], options.instances)
        into = receivers(folder)
        for number in range(options.rounds):
            for name, receiver in into.items():
                figures = one_reception(receiver, folder / f"in-{number}-{name}", sources[1], options.instances)
                received.setdefault(name, []).append(figures)
            for name, command in senders().items():
                with running(into["storescp"], folder / f"out-{number}-{name}") as (port, _):
                    given.setdefault(name, []).append(one_sending(command, port, sources, options.instances))
    told = versions() | {"load": f"{os.getloadavg()[1]:.1f}"}
    print("\n".join([*table("reception, 1 association", received, "iscl-node (fsync)"), ""]))
    print("\n".join([*table("sending, 1 association", given, "iscl-node"), ""]))
    print(", ".join(f"{name}: {value}" for name, value in told.items()))
    if options.json:
        options.json.write_text(
            json.dumps({"versions": told, "reception": received, "sending": given}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
