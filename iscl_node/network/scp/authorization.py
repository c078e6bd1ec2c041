"""Who may open an association, and for what: AE titles, hosts, user identity. What is not allowed is denied."""

import hmac
import json
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at run time

from iscl_node.domain import Peer, UserIdentity
from iscl_node.network.commitment_reports import STORAGE_COMMITMENT
from iscl_node.network.identity_items import USER_NAME_AND_PASSWORD
from iscl_node.network.patches.association_requests import NO_TITLE
from iscl_node.network.refusals import Refusal

_NO_REASON_GIVEN = (1, 2, 1)
"""What PS3.7 D.3.3.7 asks for where the user is not accepted."""
_CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 1, 3)
_CALLED_AE_TITLE_NOT_RECOGNIZED = (1, 1, 7)


@dataclass(frozen=True)
class Rejection:
    """Why an association is rejected.

    ``answer`` is result, source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21), ``reason`` one of `Refusal`, and
    ``setting`` what would let it in.
    """

    answer: tuple[int, int, int]
    reason: str
    setting: str


class Authorization:
    """The peers, and what each may do.

    Parameters
    ----------
    ae_title : str
        Ours; associations that call another one are rejected.
    peers : sequence of Peer
        Those we know. A peer's AE title is held to its entry also where unknown peers are accepted.
    accept_unknown_peers : bool
        Whether those with another AE title may store.
    commits : bool
        Whether peers that may store may ask for storage commitment.
    """

    def __init__(self, ae_title: str, peers: Sequence[Peer], accept_unknown_peers: bool, commits: bool = False) -> None:
        self._ae_title = ae_title
        self._peers = tuple(peers)
        self._accept_unknown_peers = accept_unknown_peers
        self._commits = commits

    def knows(self, ae_title: str) -> bool:
        """Whether it is the AE title of a peer that may store."""
        return any(peer.ae_title == ae_title and peer.may_store for peer in self._peers)

    def rejection(
        self,
        calling: str,
        called: str,
        host: str,
        user: UserIdentityNegotiation | None,
        proposed: Collection[str] = (),
    ) -> Rejection | None:
        """Why this association may not be opened; None if it may.

        Parameters
        ----------
        calling, called : str
            AE titles.
        host : str
            The address the connection comes from.
        user : UserIdentityNegotiation or None
            Who asks, as the requestor says.
        proposed : collection of str
            Abstract syntaxes. A host that we send to is let in for reports of storage commitment alone, under any
            AE title: archives report under another one than they receive with.
        """
        if NO_TITLE in (calling, called):
            answer = _CALLING_AE_TITLE_NOT_RECOGNIZED if calling == NO_TITLE else _CALLED_AE_TITLE_NOT_RECOGNIZED
            reason = Refusal.CALLING_AE_TITLE if calling == NO_TITLE else Refusal.CALLED_AE_TITLE
            return Rejection(answer, reason, "none; set the sender's own AE title, and ours, at the sender")
        if called != self._ae_title:
            setting = f"ae_title = {_quoted(called)} under [scp], or the sender is wrong"
            return Rejection(_CALLED_AE_TITLE_NOT_RECOGNIZED, Refusal.CALLED_AE_TITLE, setting)
        reports = STORAGE_COMMITMENT in proposed
        if reports and self.reported_for(calling, host, user):
            return None
        entries = [peer for peer in self._peers if peer.ae_title == calling]
        if not entries:
            only_reports = reports and set(proposed) <= {STORAGE_COMMITMENT, Verification}
            return None if self._accept_unknown_peers else _unknown(calling, host, only_reports)
        allowed = [peer for peer in entries if peer.may_store or peer.may_echo or (peer.may_receive and reports)]
        if not allowed:
            service = "receive" if reports else "store"
            return _rejected(Refusal.SERVICE, f'may = ["{service}"] in {_entry(entries[0])}')
        here = [peer for peer in allowed if _comes_from(peer, host)]
        if not here:
            return _rejected(Refusal.HOST, f"networks = [{_quoted(_network(host))}] in {_entry(allowed[0])}")
        if any(_is_user(user, peer) for peer in here):
            return None
        setting = f"none; user name or password are not those of {_entry(here[0])}"
        return Rejection(_NO_REASON_GIVEN, Refusal.USER, setting)

    def reported_for(self, calling: str, host: str, user: UserIdentityNegotiation | None) -> list[str]:
        """AE titles of the destinations for which a caller may report: those at its host, its own first."""
        titles = {peer.ae_title for peer in self._peers if peer.may_receive and _is_here(peer, host, user)}
        return sorted(titles, key=lambda title: (title != calling, title))

    def offered(
        self,
        contexts: Sequence[PresentationContext],
        calling: str,
        host: str,
        user: UserIdentityNegotiation | None,
        proposed: Collection[str] = (),
    ) -> list[PresentationContext]:
        """Those presentation contexts that a caller who is not rejected may use.

        Reports of storage commitment come from the peers that we send to only, requests from peers that may store.
        """
        entries = [peer for peer in self._peers if peer.ae_title == calling]
        here = [peer for peer in entries if _is_here(peer, host, user)]
        may_store = any(peer.may_store for peer in here) if entries else self._accept_unknown_peers
        may_report = STORAGE_COMMITMENT in proposed and bool(self.reported_for(calling, host, user))

        may_request = self._commits and bool(entries) and may_store

        def is_offered(context: PresentationContext) -> bool:
            if context.abstract_syntax == STORAGE_COMMITMENT:
                return may_report or may_request
            return may_store or context.abstract_syntax == Verification

        return [context for context in contexts if is_offered(context)]

    def confirmation(self, calling: str, user: UserIdentityNegotiation | None) -> UserIdentityNegotiation | None:
        """The positive response to a user that was verified, where it is asked for (PS3.7 D.3.3.7.2)."""
        if user is None or not user.positive_response_requested:
            return None
        known = [peer.user for peer in self._peers if peer.ae_title == calling and peer.user is not None]
        if not any(_presents(user, each) for each in known):
            return None
        response = UserIdentityNegotiation()
        response.server_response = b""
        return response


def _unknown(calling: str, host: str, only_reports: bool) -> Rejection:
    if only_reports:
        network = f"networks = [{_quoted(_network(host))}]"
        return _rejected(
            Refusal.CALLING_AE_TITLE, f"{network} in the [[peers]] entry of the destination it reports for"
        )
    name, title, address = (_quoted(each) for each in (calling.lower(), calling, str(_address(host))))
    return _rejected(
        Refusal.CALLING_AE_TITLE, f'[[peers]] name = {name}, ae_title = {title}, host = {address}, may = ["store"]'
    )


def _rejected(reason: str, setting: str) -> Rejection:
    return Rejection(_CALLING_AE_TITLE_NOT_RECOGNIZED, reason, setting)


def _entry(peer: Peer) -> str:
    return f"the [[peers]] entry {_quoted(peer.name)} (ae_title = {_quoted(peer.ae_title)})"


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's are."""
    return json.dumps(text)


def _network(host: str) -> str:
    address = _address(host)
    return f"{address}/{address.max_prefixlen}"


def _is_here(peer: Peer, host: str, user: UserIdentityNegotiation | None) -> bool:
    return _comes_from(peer, host) and _is_user(user, peer)


def _comes_from(peer: Peer, host: str) -> bool:
    address = _address(host)
    return any(address in network for network in peer.networks) or address in _addresses(peer.host)


def _address(host: str) -> IPv4Address | IPv6Address:
    address = ip_address(host.partition("%")[0])  # a link-local address may come with its zone
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _addresses(host: str) -> set[IPv4Address | IPv6Address]:
    """The addresses of a host, looked up each time: names move. Empty if there is no such host now."""
    if not host:
        return set()
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # the latter of what cannot be a name
        return set()
    return {_address(str(entry[4][0])) for entry in found}


def _is_user(presented: UserIdentityNegotiation | None, peer: Peer) -> bool:
    return peer.user is None or _presents(presented, peer.user)


def _presents(presented: UserIdentityNegotiation | None, wanted: UserIdentity) -> bool:
    if presented is None or presented.user_identity_type != USER_NAME_AND_PASSWORD:
        return False
    name, password = presented.primary_field or b"", presented.secondary_field or b""
    right_name = hmac.compare_digest(name, wanted.name.encode())
    return hmac.compare_digest(password, wanted.password.encode()) and right_name
