"""Stopping between two steps."""

import threading
import time

import pytest

from iscl_node.pipeline.engine.shutdown import NodeStopping, Shutdown


def test_nothing_is_left_before_it_is_requested() -> None:
    shutdown = Shutdown()
    shutdown.check()
    shutdown.wait(0)
    assert not shutdown.requested


def test_the_next_step_is_left_once_it_is_requested() -> None:
    shutdown = Shutdown()
    shutdown.request()
    assert shutdown.requested
    with pytest.raises(NodeStopping):
        shutdown.check()


def test_a_wait_ends_at_once_when_it_is_requested() -> None:
    shutdown = Shutdown()
    started = time.monotonic()
    threading.Timer(0.05, shutdown.request).start()
    with pytest.raises(NodeStopping):
        shutdown.wait(60)
    assert time.monotonic() - started < 30


def test_the_workflow_engine_does_not_take_it_for_a_result() -> None:
    assert not issubclass(NodeStopping, Exception)
