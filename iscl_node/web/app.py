"""The HTTP side of the node: what machines look at, and the page for people."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iscl_node.web.monitoring import Readiness, monitoring_routes
from iscl_node.web.pages import Pages

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def _nothing() -> Mapping[str, bool]:
    return {}


def web_app(
    registry: CollectorRegistry, readiness: Readiness, notes: Readiness = _nothing, pages: Pages | None = None
) -> Starlette:
    """The HTTP side.

    Parameters
    ----------
    registry : CollectorRegistry
        Shown at /metrics.
    readiness : callable
        Asked by /readyz, which answers 503 unless all of it holds.
    notes : callable
        Further facts of /readyz; the node takes series without them.
    pages : Pages, optional
        The page; without it there is only what machines look at.
    """
    return Starlette(
        routes=[*monitoring_routes(registry, readiness, notes), *(pages.routes() if pages else [])],
        middleware=[Middleware(SafeHeaders)],
        exception_handlers=pages.faults() if pages else {},
    )


class SafeHeaders:
    """Adds the headers for browsers to every answer: load nothing from elsewhere, keep nothing on a disk."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)
