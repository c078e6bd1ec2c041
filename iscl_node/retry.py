"""How long to wait between tries."""

from dataclasses import dataclass

_MOST_DOUBLINGS = 60


@dataclass(frozen=True)
class Backoff:
    """Twice as long each time, from the first wait to the last, in seconds."""

    first_seconds: float
    last_seconds: float

    def wait_seconds(self, tries: int) -> float:
        """The wait before the next of ``tries`` further tries."""
        return min(self.first_seconds * 2.0 ** min(tries, _MOST_DOUBLINGS), self.last_seconds)
