"""The queue: every series, searched and filtered, and what of it changed."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from iscl_node.pipeline.page.overview import IN_HAND, Overview, Row, Step, matching, shown
from iscl_node.web.frame import Frame, visitor_of
from iscl_node.web.rendering import etag_of

_ROWS_PER_PAGE: Final = 50
_MOST_KNOWN: Final = 64
"""Questions about one snapshot whose answers are kept."""
_IN_HAND: Final = "under way"


class Queue:
    """The endpoints of the queue.

    Parameters
    ----------
    overview : Overview
        What is shown.
    frame : Frame
        What is around it.
    """

    def __init__(self, overview: Overview, frame: Frame) -> None:
        self._overview = overview
        self._frame = frame
        self._rows_lock = threading.Lock()
        self._known_rows: tuple[list[Row], dict[tuple[str, bool], tuple[bytes, str]]] = [], {}
        self._known_choices: tuple[list[Row], dict[str, Any]] = [], {}

    async def page(self, request: Request) -> Response:
        """The whole page."""
        every = await run_in_threadpool(self._overview.rows)
        return self._frame.page(request, "queue.html", **await run_in_threadpool(self._listed, request, every))

    async def rows(self, request: Request) -> Response:
        """The part of the queue that changes; 304 if it did not."""
        body, etag = await run_in_threadpool(self._rows_now, request)
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"ETag": etag})
        return Response(body, media_type="text/html", headers={"ETag": etag})

    def _rows_now(self, request: Request) -> tuple[bytes, str]:
        """The rows and their ETag, made once for all browsers that ask the same while nothing changed."""
        asked = str(request.query_params), visitor_of(request).sees_identity
        every = self._overview.rows()
        with self._rows_lock:
            known_of, known = self._known_rows
            if known_of is not every or len(known) >= _MOST_KNOWN:
                self._known_rows = known_of, known = every, {}
            if asked not in known:
                body = bytes(self._frame.page(request, "rows.html", **self._listed(request, every)).body)
                known[asked] = body, etag_of(body)
            return known[asked]

    def _listed(self, request: Request, every: list[Row]) -> dict[str, Any]:
        visitor, query = visitor_of(request), request.query_params
        chosen = {name: query.get(name, "")[:200] for name in ("step", "q", "rule", "scanner")}
        is_chosen = any(chosen[name] for name in ("step", "rule", "scanner"))
        wanted = [row for row in every if _is_chosen(row, chosen)] if is_chosen else every
        rows = matching(wanted, chosen["q"], visitor.sees_identity) if chosen["q"].strip() else wanted
        pages = max(1, -(-len(rows) // _ROWS_PER_PAGE))
        page = min(max(1, int(number) if (number := query.get("page", "1")).isdecimal() else 1), pages)
        here = rows[(page - 1) * _ROWS_PER_PAGE : page * _ROWS_PER_PAGE]
        return {
            "rows": [shown(row, visitor.sees_identity) for row in here],
            "chosen": chosen,
            "found": len(rows),
            "page": page,
            "pages": pages,
            **self._choices(every),
        }

    def _choices(self, every: list[Row]) -> dict[str, Any]:
        """What the filters offer; the same while nothing changed."""
        known_of, known = self._known_choices
        if known_of is not every:
            known = {
                "counts": _counts(every),
                "rules": sorted({row.rule for row in every if row.rule}),
                "scanners": sorted({row.described.scanner for row in every if row.described.scanner}),
            }
            self._known_choices = every, known
        return known


def _is_chosen(row: Row, chosen: Mapping[str, str]) -> bool:
    step, rule, scanner = chosen["step"], chosen["rule"], chosen["scanner"]
    return (
        (not step or row.step == step or (step == _IN_HAND and row.step in IN_HAND))
        and (not rule or row.rule == rule)
        and (not scanner or row.described.scanner == scanner)
    )


def _counts(rows: Iterable[Row]) -> dict[str, int]:
    """How many batches each filter shows."""
    steps = Counter(row.step for row in rows)
    in_hand = sum(steps[step] for step in IN_HAND)
    ended = {step.value: steps[step] for step in (Step.QUARANTINE, Step.DONE, Step.IGNORED)}
    return {"": steps.total(), _IN_HAND: in_hand, **{s.value: steps[s] for s in IN_HAND if steps[s]}, **ended}
