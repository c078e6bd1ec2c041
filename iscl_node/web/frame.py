"""What all pages have around them."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

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


def visitor_of(request: Request) -> Visitor:
    """Who asks."""
    visitor: Visitor = request.state.visitor
    return visitor
