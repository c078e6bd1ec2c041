"""Each step of a delivery is done twice, and killed after each of its writes: the end is the same."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from delivery_bench import UIDS, Archive, Bench
from simulated_engine import Killed

MakeBench = Callable[..., Bench]

FORGETFUL = UIDS[0]
WRITES = ("records.deliveries.append_synced", "records.deliveries.replace_synced", "spool.move_folder")


class Forgetting(Archive):
    """Forgets the first instance that it gets, once."""

    def report(self, transaction_uid: str) -> object:  # type: ignore[override]
        self.keeps = set(UIDS) if self.stored.count(FORGETFUL) > 1 else set(UIDS[1:])
        return super().report(transaction_uid)


class Kills:
    """Kills the process at its ``number``-th write to the spool: in the middle of it, or behind it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, is_torn: bool) -> None:
        self._number, self._is_torn = number, is_torn
        self.has_struck = False
        for name in WRITES:
            self._wrap(monkeypatch, f"iscl_node.store.{name}")

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        module, function = name.rsplit(".", 1)
        real = getattr(__import__(module, fromlist=[function]), function)

        def write(place: Path, *arguments: object) -> None:
            is_fatal = self._number == 1
            if is_fatal and self._is_torn and function == "append_synced":
                (lines,) = arguments
                assert isinstance(lines, bytes)
                arguments = (lines[: len(lines) * 2 // 3],)
            real(place, *arguments)
            self._number -= 1  # a write that the disk refuses does not count
            if is_fatal:
                self.has_struck = True
                raise Killed

        monkeypatch.setattr(name, write)


def outcomes(on: Bench, archive: Archive) -> Iterator[None]:
    for _ in range(12):
        try:
            on.tick(seconds=900)
        except Killed:
            on.restart()
        yield
    assert len(archive.stored) >= len(UIDS)


@pytest.mark.fault(
    "machine",
    "each step of a delivery is killed after, and in the middle of, each of its writes to the spool; a destination has "
    "lost an instance",
    "the batch is done, and only then, when the destination has everything; what was lost is sent again once, and "
    "of what was being sent one instance at most",
)
@pytest.mark.parametrize("is_torn", [False, True])
@pytest.mark.parametrize("number", range(1, 8))
def test_a_step_is_killed_after_each_write(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch, number: int, is_torn: bool
) -> None:
    archive = Forgetting(confirm="commitment")
    on = bench(archive)
    on.begin(on.closed())
    with monkeypatch.context() as patched:
        kills = Kills(patched, number, is_torn)
        for _ in outcomes(on, archive):
            if on.states() == {"done": 1}:
                break
    assert kills.has_struck
    assert on.states() == {"done": 1}
    on.spool.recover()
    assert len(list((on.spool.root / "outbox").glob("*/*"))) == 1  # kept as long as the batch
    assert archive.keeps == set(UIDS)
    stored = Counter(archive.stored)
    again = len(UIDS) if kills.has_struck and number == 2 and is_torn else 1
    assert stored.total() <= len(UIDS) + 1 + again
    assert stored[FORGETFUL] >= 2


@pytest.mark.fault(
    "machine",
    "each step of a delivery is done twice, because the process was killed before the first was recorded",
    "nothing is sent twice that is on record, and the end is the same",
)
@pytest.mark.parametrize("refuses", [set(), {"store"}])
def test_each_step_is_done_twice(bench: MakeBench, refuses: set[str]) -> None:
    archive = Forgetting(confirm="commitment", refuses=refuses)
    on = bench(archive, Archive("vault"))
    on.engine.is_twice = True
    on.begin(on.closed())
    on.tick(seconds=900, times=4)
    assert on.states() == ({"quarantine": 1} if refuses else {"done": 1})
    assert archive.stored == ([] if refuses else [*UIDS, FORGETFUL])
    assert on.archives["vault"].stored == list(UIDS)
