"""What all pages have around them."""

from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from iscl_node.errors import RetryLaterError, text_of
from iscl_node.web.access import Visitor
from iscl_node.web.rendering import rendered


@dataclass(frozen=True)
class Frame:
    """The node's name and version, and whether somebody can log in."""

    node_name: str
    version: str
    has_users: bool

    def page(self, request: Request, template: str, status_code: int = 200, **facts: Any) -> Response:
        """A page of a template, with facts of its own."""
        facts |= {"visitor": visitor_of(request), "has_users": self.has_users}
        text = rendered(template, path=request.scope["path"], node=self.node_name, version=self.version, **facts)
        return Response(text, status_code, media_type="text/html")

    async def refusal(self, request: Request, error: Exception) -> Response:
        """The answer in place of a page: a page with the reason for who may look, a line of text for everybody else."""
        status, reason, headers = 503, f"the spool cannot be read now: {text_of(error)}", None
        if isinstance(error, HTTPException):
            status, reason, headers = error.status_code, error.detail, error.headers
        elif isinstance(error, RetryLaterError):
            reason = text_of(error)
        visitor: Visitor | None = getattr(request.state, "visitor", None)
        if not (visitor and visitor.may_look and "text/html" in request.headers.get("accept", "")):
            return PlainTextResponse(reason, status, headers)
        return self.page(
            request, "refusal.html", status, reason=reason, is_tried_again=isinstance(error, RetryLaterError)
        )


def visitor_of(request: Request) -> Visitor:
    """Who asks."""
    visitor: Visitor = request.state.visitor
    return visitor
