"""/metrics for Prometheus, /healthz and /readyz for supervisors and load balancers."""

from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Readiness = Callable[[], Mapping[str, bool]]
"""What must hold for the node to take series, each by name."""


def monitoring_routes(registry: CollectorRegistry, readiness: Readiness, notes: Readiness) -> list[Route]:
    """The routes that machines look at; see `app.web_app`."""

    def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    def healthz(_request: Request) -> Response:
        return JSONResponse({"alive": True})

    def readyz(_request: Request) -> Response:
        facts = dict(readiness())
        return JSONResponse({**facts, **notes()}, status_code=200 if all(facts.values()) else 503)

    return [Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)]
