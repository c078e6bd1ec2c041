"""``iscl-node check``: what would keep the node from its work, looked for before it starts."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.request import urlopen

import typer
from rich.filesize import decimal

from iscl_node import __version__
from iscl_node.cli.audit import checked as checked_audit
from iscl_node.cli.terminal import DEFAULT_CONFIG, FAILED, Config, Json, out, reported
from iscl_node.errors import ConfigurationError, IsclNodeError
from iscl_node.settings import Settings, load_settings

if TYPE_CHECKING:
    from iscl_node.domain import Peer

_FEW_DAYS = 30
"""A certificate that ends sooner is warned of."""
_BY_QUERY = "C-FIND"
_BY_COMMITMENT = "Storage Commitment; it must know where to report to: our AE title, host and port"


def check(
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="FILE_OR_DIR", help="Print instead what the node would do with these files, and why."),
    ] = None,
) -> None:
    """Check settings, spool, ports, database, bundle, peers, certificates, audit trail, time_zone of derived dates."""
    with reported():
        settings = load_settings(config)
        if explain is not None:
            _explain(settings, explain, as_json)
            return
        report = _checked(settings)
    if as_json:
        print(json.dumps(report, indent=2))  # noqa: T201 - for machines
    else:
        for name, result in report.items():
            out.print(f"{name}: {result}", highlight=False, markup=False, soft_wrap=True)
    if any(result.startswith("FAILED") for result in report.values()):
        raise typer.Exit(FAILED)


def _explain(settings: Settings, path: Path, as_json: bool) -> None:
    from iscl_node.assembly.denoisers import load_denoisers
    from iscl_node.denoise.bundle_digest import bundle_identity
    from iscl_node.dicom.selecting.rules import check_rules
    from iscl_node.making.explanation import explain, told

    rules = settings.known_rules()
    check_rules(rules)
    model = bundle_identity(settings.bundle.path, settings.bundle.digest)
    windows_hu = {profile: denoiser.window_hu for profile, denoiser in load_denoisers(settings).items()}
    explained, skipped = explain(path, rules, model, __version__, settings.quality.limits(), windows_hu)
    if as_json:
        refused = [{"path": str(each.path), "reason": each.reason} for each in skipped]
        print(json.dumps({"series": list(map(asdict, explained)), "refused_files": refused}, indent=2))  # noqa: T201
        return
    for each in explained:
        for line in told(each):
            out.print(line, highlight=False, markup=False, soft_wrap=True)
    for file in skipped:
        out.print(f"{file.path}: refused: {file.reason}", highlight=False, markup=False, soft_wrap=True)


def _checked(settings: Settings) -> dict[str, str]:
    from iscl_node.assembly.denoisers import load_denoisers
    from iscl_node.dicom.selecting.rules import check_rules

    report = {"settings": f"good, digest {settings.digest()}"}
    check_rules(settings.known_rules())
    for profile, denoiser in load_denoisers(settings).items():
        model = denoiser.model
        report[f"bundle, profile {profile}"] = f"{model.name} {model.version}, digest {model.digest}"
    report |= _checked_surroundings(settings)
    report["time zone"] = _checked_time_zone(settings.derived.time_zone)
    report |= _checked_tls(settings) | checked_audit(settings)
    for peer in settings.known_peers():
        if _is_readable(peer, is_scp_safe=settings.scp.tls is not None):
            report[f"user of peer {peer.name}"] = "WARNING: without TLS the password can be read on the network"
        if peer.may_receive or peer.may_query:
            try:
                report |= _checked_peer(peer, settings.scp.ae_title)
            except IsclNodeError as error:
                report[f"peer {peer.name}"] = f"FAILED: {error}"
    return report


def _checked_peer(peer: "Peer", our_ae_title: str) -> dict[str, str]:
    from iscl_node.assembly.calling import verify
    from iscl_node.network.scu.verification import answers_queries, takes_commitment

    name = f"peer {peer.name}"
    report = {name: f"answers in {verify(peer, our_ae_title) * 1000:.0f} ms"}
    report |= _checked_confirmation(peer, our_ae_title)
    if report.get(f"{name} confirms by") == _BY_COMMITMENT:
        takes_commitment(peer, our_ae_title)
        report[f"{name}, Storage Commitment"] = "takes a request"
    if peer.web is None and (peer.may_query or report.get(f"{name} confirms by") == _BY_QUERY):
        answers_queries(peer, our_ae_title)
        report[f"{name}, C-FIND"] = "answers"
    return report


def _is_readable(peer: "Peer", is_scp_safe: bool) -> bool:
    """Whether the credentials that it gets can be read on the network."""
    if peer.web is not None:
        return peer.web.url.startswith("http:") and (peer.user is not None or peer.web.token_file is not None)
    return peer.user is not None and peer.tls is None and not is_scp_safe


def _checked_surroundings(settings: Settings) -> dict[str, str]:
    """What the node needs of the machine; a node that runs has its ports itself."""
    from iscl_node.pipeline.engine.reachable import check_database

    report = {"spool": _failing(partial(_spool_told, settings))}
    runs = _node_runs(settings)
    for name, place in (("scp", settings.scp), ("http", settings.http)):
        taken = partial(_try_port, name, place.host, place.port)
        told = f"{place.host}:{place.port} is "
        report[f"{name} port"] = f"{told}that of the node that runs" if runs else _failing(taken, f"{told}free")
    report["database"] = _failing(partial(check_database, settings.database_url), "can be used")
    return report


def _failing(check: Callable[[], str | None], good: str = "") -> str:
    """What a check says, or ``good`` where it says nothing; or its fault."""
    try:
        return check() or good
    except IsclNodeError as error:
        return f"FAILED: {error}"


def _spool_told(settings: Settings) -> str:
    """Where the spool is, on which file system, and how much is free there."""
    from iscl_node.cli.users import check_user

    root, free = settings.spool_dir, settings.spool.min_free_bytes
    place = next(each for each in (root, *root.parents) if each.is_dir())
    if place != root and not os.access(place, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{root} cannot be made: {place} is not writable")
    if place == root:
        check_user(root, "serve", changes=True)
    mount = next(each for each in (place, *place.parents) if each.is_mount())
    bytes_free = shutil.disk_usage(place).free
    told = f"{root}{'' if place == root else ' (to be made)'}, on {mount}, {decimal(bytes_free)} free"
    return told if bytes_free >= free else f"WARNING: {told}, less than min_free_bytes: every instance would be refused"


def _node_runs(settings: Settings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.http.host, settings.http.host)
    try:
        with urlopen(f"http://{host}:{settings.http.port}/healthz", timeout=2) as answer:
            return b"alive" in answer.read(100)
    except (OSError, ValueError, HTTPException):
        return False


def _try_port(section: str, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "no such host"
        raise ConfigurationError(f"{host}:{port}: {reason}; see [{section}] host and port") from error


def _checked_time_zone(name: str) -> str:
    """In which zone derived dates and times are written."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    now = datetime.now(ZoneInfo(name)) if name else datetime.now().astimezone()
    told = f"{name or 'that of the machine'}, where it is {now:%Y-%m-%d %H:%M %z}"
    is_doubtful = not name and not now.utcoffset()
    return f"WARNING: {told}; is that the hospital's? [derived] time_zone names it" if is_doubtful else told


def _checked_confirmation(peer: "Peer", our_ae_title: str) -> dict[str, str]:
    """How a destination will confirm that it keeps what is sent to it."""
    from iscl_node.network.scu.verification import confirmation_services

    if not peer.may_receive or peer.confirm == "none":
        return {}
    if peer.web is not None:
        return {f"peer {peer.name} confirms by": "QIDO-RS"}
    offered = confirmation_services(peer, our_ae_title)
    way = next((each for each in ("commitment", "query") if peer.confirm in (each, "auto") and each in offered), None)
    offer = " and ".join(sorted(offered)) or "no service for it"
    told = {
        "commitment": _BY_COMMITMENT,
        "query": _BY_QUERY,
        None: f"FAILED: confirm is {peer.confirm!r} and it offers {offer}: what is sent to it would be kept for ever; "
        'confirm = "none" lets its answers to C-STORE be enough',
    }
    return {f"peer {peer.name} confirms by": told[way]}


def _checked_tls(settings: Settings) -> dict[str, str]:
    from datetime import UTC, datetime

    from iscl_node.network.tls import days_left

    report = {}
    for use, tls in settings.tls_uses().items():
        try:
            days = days_left(tls, datetime.now(UTC))
        except ConfigurationError as error:
            report[f"TLS, {use}"] = f"FAILED: {error}"
            continue
        level = "FAILED: " if days < 0 else "WARNING: " if days < _FEW_DAYS else ""
        report[f"TLS, {use}"] = f"{level}{tls.certificate} and {tls.ca}: {days} days left"
    return report
