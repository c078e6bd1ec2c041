"""The real node, ``iscl-node serve``, as a process of its own, and what can be seen of its work from outside."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from iscl_node.demo.failure import DemoError
from iscl_node.demo.processes import Program, get, running
from iscl_node.demo.workplace import Workplace
from iscl_node.domain import Peer

NODE_AE_TITLE = "ISCL_NODE"
SENDER_AE_TITLE = "DEMO_MODALITY"
_QUIET_SECONDS = 2
_READY_SECONDS = 180


@dataclass(frozen=True)
class Work:
    """How far the node is.

    ``derive_seconds`` is the time of the derived instances so far: denoising and building them.
    """

    derived: int
    derive_seconds: float
    quarantined: int


class RunningNode:
    """The node while it runs.

    Parameters
    ----------
    program : Program
        Its process.
    url : str
        Where it answers HTTP.
    """

    def __init__(self, program: Program, url: str) -> None:
        self._program = program
        self.url = url

    def work(self) -> Work | None:
        """How far it is, by its metrics; None if it does not answer now.

        Raises
        ------
        DemoError
            If it has ended.
        """
        self._program.require_alive()
        try:
            page = get(f"{self.url}/metrics").decode()
        except OSError:
            return None
        derive = {"step": "derive"}
        return Work(
            int(_value(page, "iscl_node_step_seconds_count", derive)),
            _value(page, "iscl_node_step_seconds_sum", derive),
            int(_value(page, "iscl_node_batches_total", {"outcome": "quarantine"})),
        )

    def failure(self, what: str) -> DemoError:
        """An error that shows the end of the node's log."""
        return self._program.failure(what)


@contextmanager
def running_node(workplace: Workplace, node: Peer, http_port: int, archive: Peer) -> Iterator[RunningNode]:
    """Run the node for the length of a ``with`` block, from when it is ready.

    Raises
    ------
    DemoError
        If it does not become ready.
    """
    config = workplace.folder / "node.toml"
    config.write_text(_settings(workplace, node, http_port, archive), encoding="utf-8")
    command = [sys.executable, "-m", "iscl_node", "serve", "--config", str(config)]
    url = f"http://{node.host}:{http_port}"
    with running("the node", command, workplace.folder / "node.log") as program:
        program.wait_until(lambda: bool(get(f"{url}/readyz")), _READY_SECONDS)
        yield RunningNode(program, url)


def _value(page: str, name: str, labels: dict[str, str]) -> float:
    """The value of a sample; 0 if it is not there yet."""
    samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def _settings(workplace: Workplace, node: Peer, http_port: int, archive: Peer) -> str:
    return f"""# Made by iscl-node demo; `iscl-node status --config` this file shows what the node did.
spool_dir = {json.dumps(str(workplace.spool))}
worker_name = "demo"

[scp]
ae_title = "{node.ae_title}"
host = "{node.host}"
port = {node.port}
quiet_seconds = {_QUIET_SECONDS}

[http]
host = "{node.host}"
port = {http_port}

[[peers]]
name = "modality"
ae_title = "{SENDER_AE_TITLE}"
host = "{node.host}"
port = 104
may = ["store"]

[[peers]]
name = "{archive.name}"
ae_title = "{archive.ae_title}"
host = "{archive.host}"
port = {archive.port}
may = ["receive"]
confirm = "{archive.confirm}"

[[rules]]
name = "head CT"
when = {{ Modality = "CT" }}
send_to = ["{archive.name}"]
"""
