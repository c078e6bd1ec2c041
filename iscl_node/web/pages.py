"""The pages: queue, series with its viewer, quarantine, peers, settings."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from iscl_node.domain import Peer
from iscl_node.errors import IsclNodeError, RetryLaterError, text_of
from iscl_node.pipeline.page.decisions import SET_ASIDE, Decisions
from iscl_node.pipeline.page.fleet import Fleet
from iscl_node.pipeline.page.overview import Overview, Row, Step, shown
from iscl_node.pipeline.page.validity import Validity
from iscl_node.pipeline.page.viewing import ViewedSeries, Viewing
from iscl_node.web.access import SESSION_COOKIE, Access, Endpoint, Need, own_path
from iscl_node.web.contacts import contact_of
from iscl_node.web.frame import Frame, visitor_of
from iscl_node.web.queue import Queue
from iscl_node.web.rendering import static_files
from iscl_node.web.scanners import Scanners
from iscl_node.web.timeline import timeline

_DAY: Final = 86400.0
_SERIES: Final = "/series/{uid}/{key}"


@dataclass(frozen=True)
class PageParts:
    """What the pages show, and what they may do.

    ``certificates`` gives when the certificate of each use of TLS ends, in seconds since the epoch, 0 if it cannot be
    read. ``echo`` verifies a peer by its name, returns seconds and raises RetryLaterError. ``settings`` are without
    secrets.
    """

    overview: Overview
    viewing: Viewing
    fleet: Fleet
    validity: Validity
    decisions: Decisions
    peers: Sequence[Peer]
    certificates: Callable[[], Mapping[str, float]]
    echo: Callable[[str], float]
    settings: Mapping[str, Any]
    node_name: str
    version: str


class Pages:
    """The endpoints of the page.

    Parameters
    ----------
    parts : PageParts
        What they show.
    access : Access
        Who may see it.
    """

    def __init__(self, parts: PageParts, access: Access) -> None:
        self._parts = parts
        self._access = access
        self._frame = Frame(parts.node_name, parts.version, access.has_users)
        self._scanners = Scanners(parts.fleet, self._frame)
        self._static = static_files()
        self._queue = Queue(parts.overview, self._frame)

    def routes(self) -> list[Route]:
        """Every route, each with what it asks of its visitor."""
        looks: dict[str, Endpoint] = {
            "/": self._queue.page,
            "/rows": self._queue.rows,
            "/quarantine": self._quarantine,
            "/scanners": self._scanners.page,
            "/scanners.csv": self._scanners.table,
            "/peers": self._peers,
            "/settings": self._settings,
            "/series/{uid}": self._newest,
            _SERIES: self._series,
            f"{_SERIES}/view.json": self._view,
            f"{_SERIES}/pixels/{{which:int}}/{{number:int}}": self._pixels,
            f"{_SERIES}/noise/{{number:int}}": self._noise,
            f"{_SERIES}/validity": self._validity,
            f"{_SERIES}/picture": self._picture,
        }
        acts: dict[str, Endpoint] = {
            f"{_SERIES}/requeue": self._requeue,
            f"{_SERIES}/redo": self._redo,
            f"{_SERIES}/resend": self._resend,
            f"{_SERIES}/release": self._release,
            f"{_SERIES}/export": self._export,
            "/peers/{name}/echo": self._echo,
            "/logout": self._log_out,
        }
        guarded = self._access.guarded
        return [
            *(Route(path, guarded(Need.LOOK, endpoint), methods=["GET"]) for path, endpoint in looks.items()),
            *(Route(path, guarded(Need.ACT, endpoint), methods=["POST"]) for path, endpoint in acts.items()),
            Route("/login", guarded(Need.PUBLIC, self._log_in_form), methods=["GET"]),
            Route("/login", guarded(Need.PUBLIC, self._log_in), methods=["POST"]),
            Route("/static/{name}", guarded(Need.PUBLIC, self._static_file), methods=["GET"]),
        ]

    def faults(self) -> dict[Any, Any]:
        """What is answered in place of a page, by the exception."""
        return dict.fromkeys((HTTPException, RetryLaterError, OSError), self._frame.refusal)

    # Looking

    async def _newest(self, request: Request) -> Response:
        """To the newest batch of a series."""
        rows = await run_in_threadpool(self._parts.overview.series, request.path_params["uid"])
        if not rows:
            raise HTTPException(404, "this series is not, or not any more, here")
        return RedirectResponse(f"/series/{rows[0].series_uid}/{rows[0].key}", status_code=307)

    async def _series(self, request: Request) -> Response:
        row = await self._row(request)
        viewed = await self._viewed(row)
        every = await run_in_threadpool(self._parts.overview.series, row.series_uid)
        return self._page(
            request,
            "series.html",
            row=shown(row, visitor_of(request).sees_identity),
            events=timeline(row),
            others=[each for each in every if each.key != row.key],
            derived=viewed.derived if viewed else (),
            has_view=viewed is not None,
            unreadable=_unreadable(viewed),
            is_set_aside=row.listed.state in SET_ASIDE,
        )

    async def _quarantine(self, request: Request) -> Response:
        rows = [row for row in await run_in_threadpool(self._parts.overview.rows) if row.step is Step.QUARANTINE]
        by_reason: dict[str, list[Row]] = {}
        for row in rows:
            by_reason.setdefault(row.reason, []).append(shown(row, visitor_of(request).sees_identity))
        groups = sorted(by_reason.items(), key=lambda group: -len(group[1]))
        return self._page(request, "quarantine.html", groups=groups, found=len(rows))

    async def _peers(self, request: Request, told: str = "", failed: bool = False) -> Response:
        rows = await run_in_threadpool(self._parts.overview.rows)
        now = time.time()
        certificates = await run_in_threadpool(self._parts.certificates)
        days = {use: (ends, (ends - now) / _DAY) for use, ends in certificates.items()}
        contacts = [contact_of(peer, rows, now) for peer in self._parts.peers]
        return self._page(request, "peers.html", contacts=contacts, certificates=days, told=told, failed=failed)

    async def _settings(self, request: Request) -> Response:
        return self._page(request, "settings.html", settings=self._parts.settings)

    # Viewing

    async def _view(self, request: Request) -> Response:
        viewed = await self._viewed(await self._row(request))
        if viewed is None:
            raise HTTPException(404)
        form, refused = viewed.form, viewed.refused
        made = [
            {"description": each.provenance.get("description", ""), "slices": sorted(each.places)}
            for each in viewed.derived
        ]
        if refused is not None:
            made.append({"description": "refused by the judge", "slices": [refused.number]})
        return JSONResponse(
            {
                "slices": len(viewed.sources),
                "rows": form.rows,
                "columns": form.columns,
                "spacing": form.spacing_mm,
                "window": form.window,
                "derived": made,
                "refused": refused and {"slice": refused.number, "boxes": refused.boxes},
            }
        )

    async def _pixels(self, request: Request) -> Response:
        viewed = await self._viewed(await self._row(request))
        which, number = request.path_params["which"], request.path_params["number"]
        pixels = await _decoded(self._parts.viewing.pixels, viewed, which, number) if viewed else None
        if pixels is None:
            raise HTTPException(404)
        return Response(pixels, media_type="application/octet-stream")

    async def _noise(self, request: Request) -> Response:
        """Noise of source and first derived slice, HU; null where there is no soft tissue."""
        viewed = await self._viewed(await self._row(request))
        if viewed is None:
            raise HTTPException(404)
        noise_hu, number = self._parts.viewing.noise_hu, request.path_params["number"]
        return JSONResponse([await _decoded(noise_hu, viewed, which, number) for which in (0, 1)])

    async def _validity(self, request: Request) -> Response:
        """What a validator says of what was made; a part of the page, because it takes a while."""
        checked = await run_in_threadpool(self._parts.validity.of, await self._row(request))
        return self._page(request, "validity.html", checked=checked)

    async def _picture(self, request: Request) -> Response:
        row = await self._row(request)
        if not row.listed.has_picture:
            raise HTTPException(404)
        return FileResponse(row.listed.folder / "judge.png", media_type="image/png")

    # Acting

    async def _requeue(self, request: Request) -> Response:
        row = await self._row(request)
        count = await _done(self._parts.decisions.requeue, row.series_uid, visitor_of(request).user)
        if not count:
            raise HTTPException(409, "nothing of this series can be requeued now")
        return RedirectResponse("/", status_code=303)

    async def _redo(self, request: Request) -> Response:
        row = await self._row(request)
        if not await _done(self._parts.decisions.redo, row.series_uid, visitor_of(request).user):
            raise HTTPException(409, "this series is not delivered")
        return RedirectResponse(f"/series/{row.series_uid}", status_code=303)

    async def _resend(self, request: Request) -> Response:
        row = await self._row(request)
        destination = request.state.form.get("destination", "")
        if not await _done(self._parts.decisions.resend, row.series_uid, destination, visitor_of(request).user):
            raise HTTPException(409, "nothing of this series is kept that this destination was sent")
        return RedirectResponse(f"/series/{row.series_uid}", status_code=303)

    async def _release(self, request: Request) -> Response:
        row = await self._row(request)
        if request.state.form.get("confirmed") != "yes":
            raise HTTPException(400, "nothing was deleted: confirm that it is to be deleted for good")
        if not await _done(self._parts.decisions.release, row.series_uid, row.key, visitor_of(request).user):
            raise HTTPException(409, "this batch is not in quarantine any more")
        return RedirectResponse("/quarantine", status_code=303)

    async def _export(self, request: Request) -> Response:
        row = await self._row(request)
        packed = await _done(self._parts.decisions.export, row.series_uid, visitor_of(request).user)
        if packed is None:
            raise HTTPException(404)
        return FileResponse(packed, filename=f"{row.series_uid}.zip", background=BackgroundTask(packed.unlink))

    async def _echo(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in {peer.name for peer in self._parts.peers}:
            raise HTTPException(404)
        try:
            seconds = await run_in_threadpool(self._parts.echo, name)
        except IsclNodeError as error:
            return await self._peers(request, str(error), failed=True)
        return await self._peers(request, f"{name} answers in {seconds * 1000:.0f} ms")

    # Log-in

    async def _log_in_form(self, request: Request) -> Response:
        return self._page(request, "login.html", next=own_path(request.query_params.get("next", "/")))

    async def _log_in(self, request: Request) -> Response:
        form = request.state.form
        cookie = await self._access.log_in(form.get("user", ""), form.get("password", ""))
        if cookie is None:
            said = {"next": own_path(form.get("next", "/")), "failed": True}
            return self._page(request, "login.html", status_code=403, **said)
        response = RedirectResponse(own_path(form.get("next", "/")), status_code=303)
        is_https = request.url.scheme == "https"
        response.set_cookie(SESSION_COOKIE, cookie, httponly=True, samesite="strict", secure=is_https)
        return response

    async def _log_out(self, request: Request) -> Response:
        self._access.log_out(request)
        response = RedirectResponse("/", status_code=303)
        response.delete_cookie(SESSION_COOKIE)
        return response

    async def _static_file(self, request: Request) -> Response:
        file = self._static.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        return Response(file.content, media_type=file.media_type, headers={"Cache-Control": "no-cache"})

    # Parts

    async def _row(self, request: Request) -> Row:
        uid, key = request.path_params["uid"], request.path_params["key"]
        row = await run_in_threadpool(self._parts.overview.row, uid, key)
        if row is None:
            raise HTTPException(404, "this series is not, or not any more, here in that state")
        return row

    async def _viewed(self, row: Row) -> ViewedSeries | None:
        try:
            return await run_in_threadpool(self._parts.viewing.series, row)
        except (IsclNodeError, OSError):
            return None

    def _page(self, request: Request, template: str, status_code: int = 200, **facts: Any) -> Response:
        return self._frame.page(request, template, status_code, **facts)


def _unreadable(viewed: ViewedSeries | None) -> list[str]:
    """What of a series cannot be read, in words."""
    if viewed is None:
        return []
    counts = {"of what was received": viewed.unreadable}
    counts |= {
        f"of {each.provenance.get('description') or each.series_uid}": each.unreadable for each in viewed.derived
    }
    told = {whose: "1 instance" if count == 1 else f"{count} instances" for whose, count in counts.items() if count > 0}
    return [f"{many} {whose} cannot be read: no DICOM file, or a damaged one." for whose, many in told.items()]


async def _decoded(read: Callable[[ViewedSeries, int, int], Any], viewed: ViewedSeries, which: int, number: int) -> Any:
    try:
        return await run_in_threadpool(read, viewed, which, number)
    except (IsclNodeError, OSError) as error:
        raise HTTPException(404, f"this slice cannot be read: {text_of(error)}") from error


async def _done(decide: Callable[..., Any], *arguments: str) -> Any:
    try:
        return await run_in_threadpool(decide, *arguments)
    except IsclNodeError as error:
        raise HTTPException(503, str(error)) from error
