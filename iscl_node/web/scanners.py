"""Noise and dose of each scanner and protocol over time: as plots, and as CSV."""

from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from iscl_node.pipeline.page.fleet import DAYS_BEFORE, PERIODS, Fleet
from iscl_node.web.frame import Frame
from iscl_node.web.plots import noise_plot

_MOST_SHOWN: Final = 60
_USUAL: Final = 30


class Scanners:
    """The endpoints.

    Parameters
    ----------
    fleet : Fleet
        What is shown.
    frame : Frame
        Around it.
    """

    def __init__(self, fleet: Fleet, frame: Frame) -> None:
        self._fleet = fleet
        self._frame = frame

    async def page(self, request: Request) -> Response:
        """The plots, of all scanners or of one."""
        days, scanner = _period(request), request.query_params.get("scanner", "")[:200]
        every = await run_in_threadpool(self._fleet.trends, days)
        trends = [each for each in every if not scanner or each.protocol.scanner == scanner]
        return self._frame.page(
            request,
            "scanners.html",
            days=days,
            days_before=DAYS_BEFORE[days],
            periods=PERIODS,
            scanner=scanner,
            scanners=sorted({each.protocol.scanner for each in every}),
            noisier=[each for each in trends if each.got_noisier],
            shown=[(each, noise_plot(each)) for each in trends[:_MOST_SHOWN]],
            found=len(trends),
        )

    async def table(self, request: Request) -> Response:
        """Each examination as a line of a CSV file."""
        text = await run_in_threadpool(self._fleet.table, _period(request))
        headers = {"Content-Disposition": 'attachment; filename="noise-and-dose.csv"'}
        return Response(text, media_type="text/csv", headers=headers)


def _period(request: Request) -> int:
    asked = request.query_params.get("days", "")
    return int(asked) if asked in map(str, PERIODS) else _USUAL
