"""A connection to a DICOMweb service: opened with time limits, with our certificate and credentials."""

import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httpx

from iscl_node.domain import Peer, WebService
from iscl_node.errors import ConfigurationError, RetryLaterError
from iscl_node.network.scu.answers import ServiceRefusedError
from iscl_node.network.scu.association import NoAssociationError
from iscl_node.network.tls import client_context

_TIME_LIMITS: Final = httpx.Timeout(60.0, connect=10.0)
"""Seconds; the first is for each piece that is sent or received."""
_ANSWER_SECONDS: Final = 600.0
"""For one answer in all its pieces."""
_LONGEST_ANSWER: Final = 32 << 20
"""Bytes; a page of QIDO-RS has a few hundred for each instance."""

_ASKED_AGAIN: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_NOT_ALLOWED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


@dataclass(frozen=True)
class HttpAnswer:
    """The status of an answer, and its body."""

    status: int
    body: bytes


class Connection:
    """Sends requests to one service, and keeps the connection open between them.

    Parameters
    ----------
    peer : Peer
        Whose service.
    service : WebService
        Where it is.
    client : httpx.Client
        With credentials and certificate.
    """

    def __init__(self, peer: Peer, service: WebService, client: httpx.Client) -> None:
        self._peer = peer
        self._url = service.url
        self._client = client

    def get(self, path: str, parameters: Mapping[str, str | int]) -> HttpAnswer:
        """Ask for DICOM JSON (PS3.18 F).

        Raises
        ------
        NoAssociationError
            There is no connection, or no answer in time.
        """
        return self._answer("GET", path, params=dict(parameters))

    def post(self, path: str, content_type: str, length: int, content: Iterable[bytes]) -> HttpAnswer:
        """Send a body of ``length`` bytes; for the errors see `get`."""
        headers = {"Content-Type": content_type, "Content-Length": str(length)}
        return self._answer("POST", path, headers=headers, content=content)

    def _answer(self, method: str, path: str, **request: Any) -> HttpAnswer:
        try:
            with self._client.stream(method, f"{self._url}/{path}", **request) as response:
                return HttpAnswer(response.status_code, self._body(response))
        except httpx.TimeoutException as error:
            raise NoAssociationError(f"{named(self._peer)}: no answer in time") from error
        except httpx.HTTPError as error:
            raise NoAssociationError(f"{named(self._peer)}: {str(error) or type(error).__name__}") from error

    def _body(self, response: httpx.Response) -> bytes:
        body, end = bytearray(), time.monotonic() + _ANSWER_SECONDS
        for piece in response.iter_raw():
            body += piece
            if len(body) > _LONGEST_ANSWER or time.monotonic() > end:
                raise NoAssociationError(f"{named(self._peer)} does not come to an end with its answer")
        return bytes(body)


@contextmanager
def connected(peer: Peer) -> Iterator[Connection]:
    """A connection to the service of ``peer`` for the length of a ``with`` block.

    Proxies and credentials that the environment names for other programs are not used.

    Raises
    ------
    NoAssociationError
        The certificates or the credentials cannot be used; the message says which.
    """
    service = peer.web
    if service is None:
        raise ConfigurationError(f"peer {peer.name} has no url")
    try:
        context = ssl.create_default_context() if peer.tls is None else client_context(peer.tls)
        headers = {"Accept": "application/dicom+json", "Accept-Encoding": "identity", **_bearer(service)}
    except ConfigurationError as error:
        raise NoAssociationError(f"{named(peer)}: {error}") from error
    auth = None if peer.user is None else httpx.BasicAuth(peer.user.name, peer.user.password)
    with httpx.Client(verify=context, auth=auth, headers=headers, timeout=_TIME_LIMITS, trust_env=False) as client:
        yield Connection(peer, service, client)


def _bearer(service: WebService) -> dict[str, str]:
    """The header with the token as it is now (RFC 6750 2.1)."""
    if service.token_file is None:
        return {}
    try:
        token = next(iter(service.token_file.read_text("ascii").splitlines()), "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"token_file {service.token_file} cannot be read") from error
    if not token:
        raise ConfigurationError(f"token_file {service.token_file} has no token")
    return {"Authorization": f"Bearer {token}"}


def named(peer: Peer) -> str:
    """The peer as messages name it."""
    return f"peer {peer.name} ({'' if peer.web is None else peer.web.url})"


def failure(peer: Peer, request: str, status: int) -> RetryLaterError:
    """What to do about an HTTP status that is no success.

    Parameters
    ----------
    peer : Peer
        Who answered.
    request : str
        What was asked, as in "QIDO-RS".
    status : int
        That of HTTP.
    """
    message = f"{named(peer)} answered the {request} with HTTP status {status}{_words(status)}{_hint(status)}"
    is_passing = status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED
    return RetryLaterError(message) if is_passing or status in _ASKED_AGAIN else ServiceRefusedError(message)


def _words(status: int) -> str:
    return f" ({HTTPStatus(status).phrase.lower()})" if status in set(HTTPStatus) else ""


def _hint(status: int) -> str:
    """The commonest first mistakes."""
    if status in _NOT_ALLOWED:
        return "; are user, or token_file, or our certificate, those that it knows?"
    if status == HTTPStatus.NOT_FOUND:
        return "; is the url that of its DICOMweb service?"
    is_elsewhere = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    return "; it points to another place: enter that as the url" if is_elsewhere else ""
