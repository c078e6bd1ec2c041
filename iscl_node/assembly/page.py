"""The page: what it shows, what it may do, and who may see it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from iscl_node import __version__
from iscl_node.assembly.calling import verify
from iscl_node.domain import Peer
from iscl_node.network.tls import expiry_timestamp
from iscl_node.pipeline.page.decisions import Decisions
from iscl_node.pipeline.page.fleet import Fleet
from iscl_node.pipeline.page.overview import Overview
from iscl_node.pipeline.page.validity import Validity
from iscl_node.pipeline.page.viewing import Viewing
from iscl_node.settings import Settings
from iscl_node.settings.shown import shown_settings
from iscl_node.web.access import Access
from iscl_node.web.pages import PageParts, Pages

_FIRST_WAIT_SECONDS: Final = 5.0
"""How long a browser waits for a spool that is read for the first time; then it is shown that, and asks again."""


def pages(settings: Settings, root: Path, peers: Mapping[str, Peer], fleet: Fleet, decisions: Decisions) -> Pages:
    """The pages of a node whose spool is in ``root``."""
    http = settings.http
    users = {user.name: user.password_hash for user in http.users}
    parts = PageParts(
        Overview(root, first_wait_seconds=_FIRST_WAIT_SECONDS),
        Viewing(root),
        fleet,
        Validity(root),
        decisions,
        tuple(peers.values()),
        lambda: {use: expiry_timestamp(tls) for use, tls in settings.tls_uses().items()},
        lambda name: verify(peers[name], settings.scp.ae_title),
        shown_settings(settings),
        settings.worker_name,
        __version__,
    )
    return Pages(parts, Access(users, frozenset(http.hosts), http.open_on_loopback))
