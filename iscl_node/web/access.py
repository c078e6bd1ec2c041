"""Who may see and do what. It is decided where a route is declared, never by what a request's URL looks like.

Without a log-in, a browser on this machine may look, without what identifies a patient; everybody else may only log
in. Actions need a log-in, the session's token in the form, and a request of our own pages. The Host header must be an
address or one of our names, or any web page could have its visitors' browsers read ours (DNS rebinding).
"""

import ipaddress
import secrets
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import wraps
from hmac import compare_digest
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from iscl_node.web.passwords import is_password

SESSION_COOKIE: Final = "iscl_node_session"
_SESSION_SECONDS: Final = 8 * 3600
_MOST_SESSIONS: Final = 1000
_MOST_FORM_BYTES: Final = 8192
_FAILURES: Final = 10
_FAILURE_SECONDS: Final = 60.0
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Whose request has one of these came by a proxy: from the proxy's address, which says nothing."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Need(Enum):
    """What a route asks of its visitor."""

    NOTHING = "nothing"
    """Monitoring: also by names that are not ours."""
    PUBLIC = "public"
    """The log-in and what it is made of."""
    LOOK = "look"
    ACT = "act"


@dataclass(frozen=True)
class Visitor:
    """Who asks. ``user`` is empty without a log-in; ``token`` must be in every form of a session."""

    user: str = ""
    token: str = field(default="", repr=False)
    is_here: bool = False
    """On this machine, and may look without a log-in."""

    @property
    def may_look(self) -> bool:
        """Whether pages without an identity are shown."""
        return bool(self.user) or self.is_here

    @property
    def sees_identity(self) -> bool:
        """Whether it is shown who a patient is."""
        return bool(self.user)


class Access:
    """Users and their sessions, which end with the process.

    Parameters
    ----------
    users : mapping of str to str
        Argon2 hash by name.
    hosts : collection of str
        Names by which the node may be called, beside addresses and 'localhost'.
    is_open_here : bool
        Whether a browser on this machine may look without a log-in.
    now : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        users: Mapping[str, str],
        hosts: frozenset[str] = frozenset(),
        is_open_here: bool = True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.has_users = bool(users)
        self._users = users
        self._hosts = {"localhost", *(host.casefold() for host in hosts)}
        self._is_open_here = is_open_here
        self._now = now
        self._lock = threading.Lock()
        self._checking = threading.Semaphore(2)  # a check takes a core and 64 MiB for some tenths of a second
        self._sessions: dict[str, tuple[float, Visitor]] = {}
        self._failures: deque[float] = deque(maxlen=_FAILURES)

    def guarded(self, need: Need, endpoint: Endpoint) -> Endpoint:
        """The endpoint behind its check."""

        @wraps(endpoint)
        async def checked(request: Request) -> Response:
            if need is not Need.NOTHING and not self.is_our_host(request.headers.get("host", "")):
                raise HTTPException(421, "this node does not have that name; see [http] hosts in the settings")
            request.state.visitor = visitor = self.visitor(request)
            if (need is Need.LOOK and not visitor.may_look) or (need is Need.ACT and not visitor.user):
                return _asked_to_log_in(request)
            if request.method == "POST":
                await self._check_form(request, need)
            return await endpoint(request)

        checked.need = need  # type: ignore[attr-defined]  # looked at by a test: no route is without
        return checked

    def is_our_host(self, header: str) -> bool:
        """Whether a Host header (RFC 9110 7.2) is an address or one of our names."""
        with suppress(ValueError):
            name = (urlsplit(f"//{header}").hostname or "").casefold().rstrip(".")
            return name in self._hosts or _is_address(name)
        return False

    def visitor(self, request: Request) -> Visitor:
        """Who asks."""
        token = request.cookies.get(SESSION_COOKIE, "")
        with self._lock:
            ends, visitor = self._sessions.get(token, (0.0, Visitor()))
        if visitor.user and self._now() < ends:
            return visitor
        return Visitor(is_here=self._is_open_here and _is_from_here(request))

    async def log_in(self, name: str, password: str) -> str | None:
        """The cookie of a new session; None if it is not the password.

        Raises
        ------
        HTTPException
            Too many failed of late (429).
        """
        now = self._now()
        if len(self._failures) == _FAILURES and now - self._failures[0] < _FAILURE_SECONDS:
            raise HTTPException(429, "too many failed log-ins; wait a minute")
        if not await run_in_threadpool(self._is_password, name, password):
            self._failures.append(now)
            return None
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions = {key: each for key, each in self._sessions.items() if each[0] > now}
            while len(self._sessions) >= _MOST_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            self._sessions[cookie] = now + _SESSION_SECONDS, Visitor(name, secrets.token_urlsafe(32))
        return cookie

    def log_out(self, request: Request) -> None:
        """End the session of a request."""
        with self._lock:
            self._sessions.pop(request.cookies.get(SESSION_COOKIE, ""), None)

    def _is_password(self, name: str, password: str) -> bool:
        with self._checking:
            return is_password(self._users.get(name), password)

    async def _check_form(self, request: Request, need: Need) -> None:
        """A POST comes from our own pages, with the session's token (but for the log-in, which has none)."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
        is_ours = origin is None or urlsplit(origin).netloc == request.headers.get("host")
        if not is_ours or site not in ("same-origin", "none"):
            raise HTTPException(403, "not from a page of this node")
        form = await read_form(request)
        request.state.form = form
        if need is Need.ACT and not compare_digest(form.get("token", ""), request.state.visitor.token):
            raise HTTPException(403, "the form is not of this session; load the page again")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name.

    Raises
    ------
    HTTPException
        It is too large (413).
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_FORM_BYTES:
            raise HTTPException(413)
    fields = parse_qs(body.decode("ascii", errors="replace"), keep_blank_values=True, max_num_fields=50)
    return {name: values[-1] for name, values in fields.items()}


def own_path(text: str) -> str:
    """A path of ours to go to after the log-in: never another site."""
    return text if text.startswith("/") and not text.startswith(("//", "/\\")) else "/"


def _asked_to_log_in(request: Request) -> Response:
    wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    if not wants_page:
        return Response("log in first\n", status_code=401, media_type="text/plain")
    return RedirectResponse(f"/login?next={quote(str(request.scope['path']))}", status_code=303)


def _is_from_here(request: Request) -> bool:
    if any(name in request.headers for name in _FORWARDED) or request.client is None:
        return False
    with suppress(ValueError):
        return ipaddress.ip_address(request.client.host).is_loopback
    return False


def _is_address(name: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False
