"""One series at a time uses the device, the urgent first."""

import threading
import time

from iscl_node.pipeline.steps.turns import Order, Turns

PATIENCE_SECONDS = 60


def test_of_those_that_wait_the_first_in_order_is_next() -> None:
    turns, done = Turns(), list[Order]()

    def work(order: Order) -> None:
        with turns.turn(order):
            done.append(order)

    orders = [(3, "a"), (2, "c"), (2, "b"), (1, "d")]
    threads = [threading.Thread(target=work, args=(order,)) for order in orders]
    with turns.turn((2, "first")):
        for number, thread in enumerate(threads, start=1):
            thread.start()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(turns._waiting) < number:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert done == []
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert done == sorted(orders)


def test_a_fault_gives_the_turn_back() -> None:
    turns = Turns()
    for _ in range(2):
        try:
            with turns.turn((1, "a")):
                raise ValueError
        except ValueError:
            pass
    with turns.turn((2, "b")):
        assert not turns._waiting
