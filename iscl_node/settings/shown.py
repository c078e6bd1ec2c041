"""The effective settings as they may be shown: without secrets."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from iscl_node.settings import Settings

_HIDDEN = "(hidden)"


def shown_settings(settings: Settings) -> dict[str, Any]:
    """Every value by its name; of passwords, hashes and the database's URL only what is no secret."""
    shown: dict[str, Any] = settings.model_dump(mode="json")
    shown["database_url"] = _without_password(settings.database_url)
    shown["http"]["users"] = [{"name": user.name, "password_hash": _HIDDEN} for user in settings.http.users]
    shown["derived"]["keep_private"] = [str(each) for each in settings.derived.keep_private]
    return shown


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None and not parts.query:
        return url
    place = parts.hostname or ""
    user = f"{parts.username}:{_HIDDEN}@" if parts.password else f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{user}{place}{port}", query=_HIDDEN if parts.query else ""))
