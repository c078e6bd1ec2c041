"""The node stores at Orthanc by STOW-RS and has it confirm by QIDO-RS."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from archive import Orthanc
from delivery import files_of, series_uid_of, wait_until_done
from node import Node
from required_tools import required_tool
from sending import MakeSeries, send

from iscl_node.domain import Peer, UserIdentity, WebService
from iscl_node.errors import RetryLaterError
from iscl_node.network.dicomweb.qido import verify

pytestmark = pytest.mark.peers

_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_ONLY_WITH_TOKEN = """
function IncomingHttpRequestFilter(method, uri, ip, username, headers)
  return string.sub(uri, 1, 10) ~= '/dicom-web' or headers['authorization'] == 'Bearer open sesame'
end
"""

_LOSES_THE_FIRST = """
lost = false
function OnStoredInstance(id)
  if not lost then
    lost = true
    RestApiDelete('/instances/' .. id)
  end
end
"""

StartOrthanc = Callable[..., Orthanc]


@pytest.fixture
def start_orthanc(tmp_path: Path) -> Iterator[StartOrthanc]:
    """Starts Orthanc with its DICOMweb plugin, and ends it after the test."""
    servers = []

    def start(settings: Mapping[str, Any] | None = None, lua: str = "") -> Orthanc:
        if not _PLUGIN.exists():
            required_tool("Orthanc's DICOMweb plugin (Debian package orthanc-dicomweb)")
        server = Orthanc(tmp_path / "orthanc", lua, {"Plugins": [str(_PLUGIN)], **(settings or {})})
        servers.append(server)
        server.start(node_port=1)
        return server

    yield start
    for server in servers:
        server.close()


def node_of(folder: Path, bundle: Path, url: str, more: str = "") -> Node:
    """A node whose rules send to the service alone."""
    web = f'[[dicomweb]]\nname = "web"\nurl = "{url}"\n{more}'
    node = Node(folder, archive_port=1, bundle=bundle, rule=web)
    node.change_settings('send_to = ["archive"]', 'send_to = ["web"]')
    return node


def test_a_series_is_stored_and_confirmed(
    start_orthanc: StartOrthanc, tmp_path: Path, bundle: Path, make_series: MakeSeries
) -> None:
    orthanc = start_orthanc()
    node = node_of(tmp_path / "node", bundle, orthanc.web_url)
    series = make_series(3)
    node.start()
    try:
        send(node, files_of(series))
        wait_until_done(node, series)
        confirmed = node.metric(
            "iscl_node_confirmations_total", {"peer": "web", "way": "query", "outcome": "confirmed"}
        )
        report = node.command("check", "--json").stdout
    finally:
        node.close()

    (study,) = orthanc.get("/studies?expand")
    assert study["MainDicomTags"]["StudyInstanceUID"] == series[0].StudyInstanceUID
    assert len(orthanc.get("/instances")) == 3
    assert confirmed == 1
    assert '"peer web confirms by": "QIDO-RS"' in report


@pytest.mark.fault(
    "delivery", "a DICOMweb service is down, or wants credentials", "sent when it answers; nothing is lost"
)
def test_a_series_waits_for_a_service_that_is_down_and_for_its_token(
    start_orthanc: StartOrthanc, tmp_path: Path, bundle: Path, make_series: MakeSeries
) -> None:
    orthanc = start_orthanc(lua=_ONLY_WITH_TOKEN)
    token = tmp_path / "token"
    token.write_text("wrong\n")
    node = node_of(tmp_path / "node", bundle, orthanc.web_url, f'token_file = "{token}"')
    series = make_series(2)
    orthanc.kill()
    node.start()
    try:
        send(node, files_of(series))
        node.wait_for(lambda: "refused" in node.command("status").stdout, "it says that nobody listens")
        orthanc.start(node_port=1)
        node.wait_for(lambda: "HTTP status 403" in node.command("status").stdout, "it says that it is not let in")
        assert node.states(series_uid_of(series)) <= {"closed", "outbox"}
        token.write_text("open sesame\n")
        wait_until_done(node, series)
    finally:
        node.close()
    assert len(orthanc.get("/instances")) == 2


@pytest.mark.fault("delivery", "a DICOMweb service has lost what it stored", "QIDO-RS misses it five times: sent again")
def test_what_the_service_loses_is_sent_again(
    start_orthanc: StartOrthanc, tmp_path: Path, bundle: Path, make_series: MakeSeries
) -> None:
    orthanc = start_orthanc(lua=_LOSES_THE_FIRST)
    node = node_of(tmp_path / "node", bundle, orthanc.web_url)
    series = make_series(2)
    node.start()
    try:
        send(node, files_of(series))
        wait_until_done(node, series)
        resent = node.metric("iscl_node_resent_instances_total", {"peer": "web"})
    finally:
        node.close()
    assert len(orthanc.get("/instances")) == 2
    assert resent == 1


def test_user_and_password_are_checked(start_orthanc: StartOrthanc) -> None:
    orthanc = start_orthanc({"AuthenticationEnabled": True, "RegisteredUsers": {"node": "open sesame"}})
    web = WebService(orthanc.web_url)
    assert verify(Peer("web", "", "127.0.0.1", 1, user=UserIdentity("node", "open sesame"), web=web)) > 0
    with pytest.raises(RetryLaterError, match="401"):
        verify(Peer("web", "", "127.0.0.1", 1, web=web))
