"""The soak: 20,000 instances from 8 clients, while the node, the archive and clients are killed at random.

Once it is one node with SQLite, and once a receiving and two working ones with PostgreSQL. ``ISCL_NODE_SOAK_INSTANCES``
and ``ISCL_NODE_SOAK_SEED`` in the environment change the size and the plan of the long ones; their reports are printed
and written to ``build/soak.json`` and ``build/soak-fleet.json``.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from archive import Orthanc, counting
from fleet import Fleet
from node import Node
from postgresql import PostgresqlServer
from soak.clients import Clients
from soak.inventory import committed, differences, done_twice, expected, held, lines_of, missed, waiting_batches
from soak.kills import Kills
from soak.ledger import Ledger
from soak.sources import kill_points, sources
from surroundings import REPOSITORY

pytestmark = pytest.mark.peers

CLIENTS = 8
INSTANCES = int(os.environ.get("ISCL_NODE_SOAK_INSTANCES", "20000"))
SEED = int(os.environ.get("ISCL_NODE_SOAK_SEED", "1"))

_QUIET_SECONDS = 2.0
_REPORT_SECONDS = 20
"""An archive that is killed forgets what it was asked to commit to; then it is asked again."""

_SERIES_WAITING = 24
"""Clients begin no further series while so many are not delivered, so that each kill finds work of all kinds."""
_LOOK_SECONDS = 0.5
_TOLD_SECONDS = 60

_IN_HAND = 4
"""Deliveries of a node to one archive at once (`_DELIVERIES_IN_HAND`): of each one instance may be stored at a kill."""


@dataclass(frozen=True)
class Plan:
    """How many kills there are of each kind."""

    node: int
    archive: int
    clients: int


def plan_for(instances: int) -> Plan:
    """Of 20,000 instances: 55 kills of the node, 10 of the archive, 20 of clients; at least one of each."""
    return Plan(max(1, instances * 55 // 20_000), max(1, instances // 2_000), max(1, instances // 1_000))


class Soak:
    """One run.

    Parameters
    ----------
    folder : Path
        For everything that it writes.
    bundle : Path
        The model.
    instances : int
        How many the clients send.
    seed : int
        Of the plan.
    tell : callable
        Takes lines for whoever waits.
    server : PostgresqlServer, optional
        With it there are a receiving and two working nodes.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        instances: int,
        seed: int,
        tell: Callable[[str], None],
        server: PostgresqlServer | None = None,
    ) -> None:
        self.seed = seed
        self.plan = plan_for(instances)
        self.sources = list(sources(instances, self._dice("sources")))
        self.ledger = Ledger(instances)
        self.archive = Orthanc(folder / "orthanc", counting(folder / "orthanc"))
        self.nodes = self._made_nodes(folder, bundle, server)
        self.node, *_ = self.nodes
        for node in self.nodes:
            node.change_settings("[delivery]", f"[delivery]\nreport_hours = {_REPORT_SECONDS / 3600}")
        files = folder / "sources"
        files.mkdir()
        kill_at = kill_points(self.sources, self.plan.clients, self._dice("kills of clients"))
        self.clients = Clients(self.node, iter(self.sources), kill_at, self.ledger, files, self._has_room)
        self.kills = Kills(self.nodes, self.archive, self.ledger)
        self._tell = tell
        self._started = time.monotonic()

    def _made_nodes(self, folder: Path, bundle: Path, server: PostgresqlServer | None) -> list[Node]:
        """The first receives."""
        if server is None:
            return [Node(folder / "node", self.archive.port, bundle, _QUIET_SECONDS, confirm="commitment")]
        fleet = Fleet(folder, server, self.archive.port, bundle)
        roles = {"receiver": "receive", "worker-1": "work", "worker-2": "work"}
        return [fleet.make(name, role, _QUIET_SECONDS, confirm="commitment") for name, role in roles.items()]

    def run(self) -> None:
        """Send everything and kill according to the plan, until the node has nothing left to do."""
        try:
            self._run()
        except BaseException:
            self._tell("\n".join([self._state(), *waiting_batches(self.node), self._log_tails()]))
            raise

    def _run(self) -> None:
        self.archive.start(self.node.port)
        for node in self.nodes:
            node.start()
        kills, plan = self.kills, self.plan
        with ThreadPoolExecutor(CLIENTS + 2) as threads:
            futures = [
                threads.submit(self._guarded, kills.kill_node, plan.node, self._dice("kills of the node")),
                threads.submit(self._guarded, kills.kill_archive, plan.archive, self._dice("kills of the archive")),
            ]
            for number in range(CLIENTS):
                futures.append(threads.submit(self._guarded, self.clients.run_one, self._dice(f"client {number}")))
            self._watch(futures)
        self._await_the_end()

    def _dice(self, whose: str) -> random.Random:
        return random.Random(f"{self.seed} {whose}")

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException:
            self.ledger.failed.set()
            raise

    def _watch(self, futures: "list[Future[None]]") -> None:
        """Keep the progress up to date until all have ended; raise what the first of them raised."""
        told = time.monotonic()
        while True:
            self._look()
            done, pending = wait(futures, _LOOK_SECONDS, FIRST_EXCEPTION)
            for future in done:
                future.result()
            if not pending:
                return
            if time.monotonic() - told > _TOLD_SECONDS:
                told = time.monotonic()
                self._tell(self._state())

    def _look(self) -> None:
        delivered = {path.name for path in (self.node.spool / "done").iterdir()}
        self.ledger.delivered_part = len(delivered) / len(self.sources)

    def _state(self) -> str:
        minutes = (time.monotonic() - self._started) / 60
        counts = ", ".join(f"{number} {what}" for what, number in self.ledger.counts.items())
        return f"soak, {minutes:.1f} min: {100 * self.ledger.progress():.0f}% ({counts})"

    def _await_the_end(self) -> None:
        def progress() -> object:
            self._look()
            return self.ledger.delivered_part, waiting_batches(self.node)

        self.ledger.wait_until(lambda: not waiting_batches(self.node), "nothing waits in the spool", progress)
        self.kills.note_memory()

    def _log_tails(self) -> str:
        return "\n".join(node.log_tail() for node in self.nodes)

    def _has_room(self) -> bool:
        series = {path.name for state in ("open", "closed") for path in (self.node.spool / state).iterdir()}
        return len(series) < _SERIES_WAITING

    def report(self) -> dict[str, object]:
        """Check what archive and spool have; return the counts."""
        minutes = (time.monotonic() - self._started) / 60
        wanted, found = expected(self.node, self.sources), held(self.archive)
        lines = lines_of(self.nodes)
        assert self.ledger.acknowledged == {uid for source in self.sources for uid in source.sop_uids()}
        assert not (wrong := differences(self.node, wanted, found)), f"{wrong}\n{self._log_tails()}"
        faults = [line for line in lines if "unforeseen" in line["event"]]
        assert not faults, "\n".join(map(str, faults))
        assert not (twice := done_twice(self.node, lines)), twice
        counts, stored_again = self.ledger.counts, self.archive.stores().total() - len(wanted)
        kills = counts["kills of the node"] + counts["kills of the archive"]
        assert stored_again <= _IN_HAND * kills + missed(self.node), "more was stored again than was in hand at a kill"
        return {
            "seed": self.seed,
            "series": len(self.sources),
            "instances": self.ledger.instances,
            "requests sent": counts["sent"],
            "acknowledged": len(self.ledger.acknowledged),
            "repeated": counts["sent"] - self.ledger.instances,
            **{what: number for what, number in sorted(counts.items()) if what.startswith("kills")},
            "derived instances expected": len(wanted),
            "derived instances in the archive": len(found),
            "derived instances stored again": stored_again,
            "of these the archive had lost": missed(self.node),
            "instances the archive committed to": committed(self.node).total(),
            "batches": self.node.status()["batches"],
            "events in the node's log": dict(Counter(line["event"] for line in lines).most_common()),
            "minutes": round(minutes, 1),
            "peak memory of the node in MB": self.kills.peak_memory_bytes // 1_000_000,
        }

    def close(self) -> None:
        """End nodes and archive."""
        for node in self.nodes:
            node.close()
        self.archive.close()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Shows a line while the test runs."""

    def show(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")
            sys.stdout.flush()

    return show


@pytest.fixture
def soak(request: pytest.FixtureRequest, tmp_path: Path, bundle: Path, tell: Callable[[str], None]) -> Iterator[Soak]:
    run = Soak(tmp_path, bundle, request.param, SEED, tell)
    yield run
    run.close()


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    server = PostgresqlServer()
    yield server
    server.close()


@pytest.fixture
def shared_soak(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    bundle: Path,
    tell: Callable[[str], None],
    server: PostgresqlServer,
) -> Iterator[Soak]:
    run = Soak(tmp_path, bundle, request.param, SEED, tell, server)
    yield run
    run.close()


@pytest.mark.parametrize("soak", [120], indirect=True)
def test_a_short_soak(soak: Soak) -> None:
    soak.run()

    assert soak.report()["kills of the node"] >= 1


@pytest.mark.fault(
    "machine",
    "a soak: 20,000 instances from 8 clients; 55 kills of the node, 10 of the archive, 20 of clients",
    "the archive has exactly one derived instance for each source and strength, under its computed UIDs and with its "
    "pixels, nothing else, and has committed to each",
)
@pytest.mark.long
@pytest.mark.parametrize("soak", [INSTANCES], indirect=True)
def test_every_acknowledged_instance_is_delivered_exactly_once(soak: Soak, tell: Callable[[str], None]) -> None:
    _run_and_write(soak, "soak.json", tell)


@pytest.mark.fault(
    "machine",
    "the same soak with PostgreSQL, one node that receives and two that work, each of which is killed",
    "the same; nothing is stored more than once again for each delivery that was being sent at a kill",
)
@pytest.mark.long
@pytest.mark.parametrize("shared_soak", [INSTANCES], indirect=True)
def test_several_nodes_deliver_exactly_once(shared_soak: Soak, tell: Callable[[str], None]) -> None:
    _run_and_write(shared_soak, "soak-fleet.json", tell)


def _run_and_write(soak: Soak, name: str, tell: Callable[[str], None]) -> None:
    soak.run()

    report = soak.report()

    path = REPOSITORY / "build" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    tell("\n".join(f"{what:>34}: {number}" for what, number in report.items()) + "\n")
