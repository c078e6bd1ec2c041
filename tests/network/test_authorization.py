"""Who may open an association: hosts, services, user identity; and what the log says to those who may not."""

import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
import structlog
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification
from scripted_peers import storescu

from iscl_node.domain import CT_IMAGE_STORAGE, Peer, UserIdentity
from iscl_node.metrics import Metrics
from iscl_node.network.commitment_reports import STORAGE_COMMITMENT
from iscl_node.network.scp.authorization import Authorization
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.network.scu.verification import echo

HERE = Peer("ct 1", "SCANNER", "127.0.0.1", 104)
SECRET = UserIdentity("ct1", "pass word")

Start = Callable[..., StorageScp]


@pytest.fixture
def start(metrics: Metrics) -> Iterator[Start]:
    with ExitStack() as stack:

        def start_scp(*peers: Peer, unknown: bool = False) -> StorageScp:
            scp = StorageScp(
                ae_title="ISCL_NODE",
                host="127.0.0.1",
                port=0,
                peers=peers,
                accept_unknown_peers=unknown,
                receive=lambda instance: None,
                metrics=metrics,
            )
            scp.start()
            stack.callback(scp.stop)
            return scp

        yield start_scp


def associate(scp: StorageScp, calling: str = "SCANNER") -> Association:
    contexts = [build_context(CT_IMAGE_STORAGE, "1.2.840.10008.1.2.1"), build_context(Verification)]
    return AE(ae_title=calling).associate("127.0.0.1", scp.port, contexts=contexts, ae_title="ISCL_NODE")


def rejection(
    *peers: Peer,
    calling: str = "SCANNER",
    host: str = "127.0.0.1",
    unknown: bool = False,
    proposed: Sequence[str] = (),
) -> str | None:
    """The setting that would let it in; None if it is in."""
    found = Authorization("ISCL_NODE", peers, unknown).rejection(calling, "ISCL_NODE", host, None, proposed)
    return None if found is None else found.setting


def test_a_peer_comes_from_its_host_or_its_networks() -> None:
    peer = replace(HERE, host="192.0.2.7", networks=(ip_network("10.1.0.0/16"), ip_network("2001:db8::/32")))
    for host in ("192.0.2.7", "10.1.255.1", "::ffff:10.1.0.1", "2001:db8::1"):
        assert rejection(peer, host=host) is None
    for host in ("192.0.2.8", "10.2.0.1", "2001:db9::1", "fe80::1%eth0"):
        assert rejection(peer, host=host) is not None


def test_a_host_may_be_a_name() -> None:
    assert rejection(replace(HERE, host="localhost")) is None
    assert rejection(replace(HERE, host="no-such-host.invalid")) is not None
    assert rejection(replace(HERE, host="")) is not None
    assert rejection(replace(HERE, host="no..name")) is not None


def test_a_title_may_have_several_entries() -> None:
    elsewhere = replace(HERE, name="ct 2", host="192.0.2.7")
    assert rejection(elsewhere, HERE) is None
    assert rejection(elsewhere, HERE, host="192.0.2.7") is None


def test_the_log_says_which_entry_to_add() -> None:
    entry = rejection(calling='A"B', host="192.0.2.7")
    assert entry is not None
    table, rest = entry.split(" ", 1)
    assert table == "[[peers]]"
    (peer,) = tomllib.loads(f"peers = [{{ {rest} }}]")["peers"]
    assert peer == {"name": 'a"b', "ae_title": 'A"B', "host": "192.0.2.7", "may": ["store"]}


def test_the_log_says_which_network_to_add() -> None:
    entry = rejection(HERE, host="192.0.2.7")
    assert entry == 'networks = ["192.0.2.7/32"] in the [[peers]] entry "ct 1" (ae_title = "SCANNER")'


def test_the_log_says_which_service_to_add() -> None:
    entry = rejection(replace(HERE, may_store=False))
    assert entry == 'may = ["store"] in the [[peers]] entry "ct 1" (ae_title = "SCANNER")'


def test_reports_come_from_the_host_of_a_destination_under_any_title() -> None:
    destination = replace(HERE, may_store=False, may_receive=True)
    reports = [STORAGE_COMMITMENT]
    assert rejection(destination, calling="REPORTER", proposed=reports) is None
    assert rejection(destination, calling="REPORTER") is not None
    assert rejection(replace(destination, may_receive=False), calling="REPORTER", proposed=reports) is not None


def test_the_log_never_says_to_let_in_images_where_somebody_reports() -> None:
    destination = replace(HERE, may_store=False, may_receive=True)
    elsewhere = rejection(destination, calling="REPORTER", host="192.0.2.7", proposed=[STORAGE_COMMITMENT])
    assert elsewhere == 'networks = ["192.0.2.7/32"] in the [[peers]] entry of the destination it reports for'
    known = rejection(replace(HERE, may_store=False, may_receive=False), proposed=[STORAGE_COMMITMENT])
    assert known == 'may = ["receive"] in the [[peers]] entry "ct 1" (ae_title = "SCANNER")'


def test_a_known_title_is_held_to_its_entry_also_where_strangers_are_taken() -> None:
    assert rejection(HERE, calling="STRANGER", unknown=True) is None
    assert rejection(HERE, host="192.0.2.7", unknown=True) is not None


@pytest.mark.fault(
    "peers",
    "a known AE title from another host",
    "rejected and counted; the log line has the setting that would let it in",
)
def test_a_peer_from_another_host_is_rejected(start: Start, metrics: Metrics) -> None:
    scp = start(replace(HERE, host="192.0.2.7"))
    with structlog.testing.capture_logs() as logs:
        association = associate(scp)
    assert association.is_rejected
    answer = association.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 3)
    (line,) = [line for line in logs if line["event"] == "association.rejected"]
    assert line["setting_that_accepts"].startswith('networks = ["127.0.0.1/32"]')
    labels = {"reason": "host of the calling AE title"}
    assert metrics.registry.get_sample_value("iscl_node_refused_connections_total", labels) == 1


@pytest.mark.fault("peers", "a peer that may only `echo` wants to store", "only Verification is accepted")
def test_who_may_only_echo_gets_no_storage_context(start: Start) -> None:
    association = associate(start(replace(HERE, may_store=False, may_echo=True)))
    assert [context.abstract_syntax for context in association.accepted_contexts] == [Verification]
    assert association.send_c_echo().Status == 0x0000
    association.release()


def test_who_may_store_may_echo(start: Start) -> None:
    association = associate(start(HERE))
    assert len(association.accepted_contexts) == 2
    association.release()


def test_a_user_with_the_password_gets_in_and_hears_so(start: Start, ct_file: Path) -> None:
    scp = start(replace(HERE, user=SECRET))
    done = storescu(scp.port, [ct_file], "-usr", "ct1", "-pwd", "pass word", "-rsp")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "options",
    [[], ["-usr", "ct1"], ["-usr", "ct1", "-pwd", "guess"], ["-usr", "ct2", "-pwd", "pass word"]],
    ids=["nobody", "no password", "wrong password", "wrong user"],
)
@pytest.mark.fault("peers", "no user identity, another user or a wrong password", "rejected; the log has no password")
def test_other_users_do_not_get_in(start: Start, ct_file: Path, options: list[str]) -> None:
    scp = start(replace(HERE, user=SECRET))
    with structlog.testing.capture_logs() as logs:
        assert storescu(scp.port, [ct_file], *options).returncode != 0
    (line,) = [line for line in logs if line["event"] == "association.rejected"]
    assert line["reason"] == "user identity"
    assert "pass word" not in str(line)
    assert "guess" not in str(line)


def test_we_present_the_user_of_a_peer(start: Start) -> None:
    scp = start(replace(HERE, user=SECRET))
    peer = Peer("node", "ISCL_NODE", "127.0.0.1", scp.port, user=SECRET)
    assert echo(peer, "SCANNER") > 0


def test_a_password_is_not_shown() -> None:
    assert "pass word" not in repr(replace(HERE, user=SECRET))
