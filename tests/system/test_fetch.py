"""``iscl-node fetch``: the node has Orthanc send a back catalogue."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from archive import Orthanc
from delivery import files_of
from node import PATIENCE_SECONDS, Node
from sending import MakeSeries

pytestmark = pytest.mark.peers

STUDIES = 20


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc")
    yield server
    server.close()


@pytest.fixture
def node(orthanc: Orthanc, tmp_path: Path, bundle: Path) -> Iterator[Node]:
    node = Node(tmp_path / "node", orthanc.port, bundle)
    node.change_settings('may = ["store", "receive"]', 'may = ["store", "receive", "query"]')
    orthanc.start(node.port)
    node.start()
    yield node
    node.close()


def uploaded(orthanc: Orthanc, make_series: MakeSeries, count: int) -> list[str]:
    """The UIDs of as many studies as Orthanc has now, with one CT series each."""
    for number in range(count):
        uid = f"2.25.77{number:03}"
        common = {"StudyInstanceUID": uid, "StudyDate": f"202601{number % 28 + 1:02}"}
        for path in files_of(make_series(2, f"ct-{number}", **common)):
            orthanc.post("/instances", path.read_bytes())
    return [f"2.25.77{number:03}" for number in range(count)]


def series_of_studies(orthanc: Orthanc) -> dict[str, int]:
    """How many series each study has."""
    return {each["MainDicomTags"]["StudyInstanceUID"]: len(each["Series"]) for each in orthanc.get("/studies?expand")}


@pytest.mark.fault(
    "peers",
    "a list of 20 studies is fetched, and in the middle `kill -9` hits the command and the node",
    "run again it goes on: each series is fetched, and its derived one delivered",
)
def test_a_list_is_fetched_over_a_kill(orthanc: Orthanc, node: Node, make_series: MakeSeries, tmp_path: Path) -> None:
    uids = uploaded(orthanc, make_series, STUDIES)
    file = tmp_path / "studies.csv"
    file.write_text("# studies of January\n" + "".join(f"{uid},done in time\n" for uid in uids))
    record = node.spool / "fetched.jsonl"
    arguments = ("fetch", "--peer", "archive", "--list", str(file), "--waiting", "8")
    first = subprocess.Popen(
        [sys.executable, "-m", "iscl_node", *arguments, "--config", str(node.spool.parent / "node.toml")]
    )
    try:
        node.wait_for(lambda: record.exists() and len(record.read_text().splitlines()) > 6, "some series are fetched")
    finally:
        first.kill()
        first.wait()
    node.kill()
    node.start()

    second = node.command(*arguments, "--json")
    assert second.returncode == 0, second.stdout + second.stderr
    summary = json.loads(second.stdout.splitlines()[-1])
    assert 0 < summary["fetched_before"] < STUDIES
    assert summary["failed"] == 0
    fetched = Counter(line["series"] for line in map(json.loads, record.read_text().splitlines()) if "series" in line)
    assert len(fetched) == STUDIES
    assert set(fetched.values()) == {1}, "what was fetched before the kill is not fetched again"
    node.wait_for(lambda: set(series_of_studies(orthanc).values()) == {2}, "each study has its derived series")
    assert set(series_of_studies(orthanc)) == set(uids)


def test_a_query_fetches_what_matches(orthanc: Orthanc, node: Node, make_series: MakeSeries) -> None:
    uploaded(orthanc, make_series, 3)
    other = make_series(2, "mr", Modality="MR", StudyInstanceUID="2.25.77001")
    for path in files_of(other):
        orthanc.post("/instances", path.read_bytes())
    done = node.command("fetch", "--peer", "archive", "--query", "StudyDate=20260102-20260105", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["studies"], summary["series"], summary["instances"]) == (2, 2, 4)
    nothing = node.command("fetch", "--peer", "archive", "--study", "2.25.1")
    assert nothing.returncode == 1
    assert "none of the series that are wanted" in nothing.stdout


def test_it_waits_for_the_hours(orthanc: Orthanc, node: Node, make_series: MakeSeries) -> None:
    (uid,) = uploaded(orthanc, make_series, 1)
    now = datetime.now()
    hours = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    arguments = ("fetch", "--peer", "archive", "--study", uid, "--hours", hours)
    command = [sys.executable, "-u", "-m", "iscl_node", *arguments, "--config", str(node.spool.parent / "node.toml")]
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert waiting.stdout is not None
        assert waiting.stdout.readline().startswith("waits until ")
    finally:
        waiting.kill()
        waiting.wait(PATIENCE_SECONDS)
    assert not (node.spool / "fetched.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peer", "sender", "--study", "1.2"], "none of [[peers]] whose may has"),
        (["--peer", "archive"], "one of --study, --list and --query"),
        (
            ["--peer", "archive", "--study", "1.2", "--query", "StudyDate=20260101"],
            "one of --study, --list and --query",
        ),
        (["--peer", "archive", "--study", "1.2.x"], "no UID of a study"),
        (["--peer", "archive", "--list", "/gone"], "cannot be read as text"),
        (["--peer", "archive", "--study", "1.2", "--hours", "at night"], "--hours: hours are written as"),
    ],
)
def test_a_wrong_command_is_refused(node_settings: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "iscl_node", "fetch", *arguments, "--config", str(node_settings)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr


@pytest.fixture
def node_settings(tmp_path: Path, bundle: Path) -> Path:
    node = Node(tmp_path / "node", 1, bundle)
    node.change_settings('may = ["store", "receive"]', 'may = ["store", "receive", "query"]')
    (node.spool / "open").mkdir(parents=True)
    return tmp_path / "node" / "node.toml"
