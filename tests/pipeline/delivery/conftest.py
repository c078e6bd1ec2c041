"""A bench for deliveries on the simulated engine."""

from collections.abc import Callable

import pytest
from delivery_bench import Bench
from simulated_engine import Clock, SimulatedEngine

from iscl_node.metrics import Metrics
from iscl_node.pipeline.engine.words import Durable
from iscl_node.store.spool import Spool


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> SimulatedEngine:
    engine = SimulatedEngine(Clock())
    engine.install(monkeypatch)
    monkeypatch.setattr(Durable, "__init__", lambda self, name: None)
    for module in ("workflows.batch", "workflows.reconcile", "delivery.ask"):
        monkeypatch.setattr(f"iscl_node.pipeline.{module}.time", engine.clock)
    return engine


@pytest.fixture
def bench(spool: Spool, metrics: Metrics, engine: SimulatedEngine) -> Callable[..., Bench]:
    return lambda *archives: Bench(spool, metrics, engine, *archives)
