"""The conformance statement says what the program does: its tables are tried against the program."""

import re
import tomllib
from pathlib import Path

import pytest
from pydicom.sr.coding import Code
from pydicom.uid import AllTransferSyntaxes, MRImageStorage, SecondaryCaptureImageStorage
from pynetdicom import AE
from pynetdicom.presentation import build_context
from surroundings import REPOSITORY

from iscl_node import __version__
from iscl_node.conformance.services import (
    ASKED,
    ASKED_STATUSES,
    REPORT_STATUSES,
    SCP_STATUSES,
    SCU_STATUSES,
    VERIFICATION,
)
from iscl_node.conformance.statement import SENT, conformance_statement, parameters
from iscl_node.dicom import provenance
from iscl_node.dicom.evidence import noise_map, report
from iscl_node.dicom.reading import header
from iscl_node.domain import CT_STORAGE, IMPLEMENTATION_CLASS_UID, Peer
from iscl_node.errors import QuarantineSeriesError, RetryLaterError
from iscl_node.metrics import Metrics
from iscl_node.network import commitment_reports
from iscl_node.network.scp import intake, storage_scp, store_messages
from iscl_node.network.scp.storage_scp import StorageScp
from iscl_node.network.scu import storage_scu
from iscl_node.network.scu.answers import ServiceRefusedError, failure
from iscl_node.settings import Settings, load_settings
from iscl_node.store.receiving import reception

DOCUMENT = REPOSITORY / "docs" / "conformance.md"
SENDER = Peer("sender", "SENDER", "127.0.0.1", 104)
MOST_CONTEXTS = 120


@pytest.fixture
def statement() -> str:
    return conformance_statement()


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table behind a heading or sentence."""
    table = re.search(r"((?:^\|.*\n)+)", text[text.index(heading) :], re.MULTILINE)
    assert table is not None
    return [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in table[1].splitlines()[2:]]


def test_the_document_is_the_one_that_the_program_writes(statement: str) -> None:
    assert DOCUMENT.read_text() == statement, "run: iscl-node conformance --output docs/conformance.md"


def test_a_running_scp_accepts_what_is_stated_and_nothing_else(statement: str, metrics: Metrics) -> None:
    scp = StorageScp(
        ae_title="NODE",
        host="127.0.0.1",
        port=0,
        peers=[SENDER],
        accept_unknown_peers=False,
        receive=lambda _: None,
        metrics=metrics,
        report=lambda *_: None,
    )
    scp.start()
    classes = [VERIFICATION, *SENT, *ASKED, MRImageStorage, SecondaryCaptureImageStorage]
    proposed = [build_context(sop_class, syntax) for sop_class in classes for syntax in AllTransferSyntaxes]
    accepted = set()
    try:
        for start in range(0, len(proposed), MOST_CONTEXTS):
            part = proposed[start : start + MOST_CONTEXTS]
            association = AE("SENDER").associate("127.0.0.1", scp.port, part, "NODE")
            accepted |= {(each.abstract_syntax, each.transfer_syntax[0]) for each in association.accepted_contexts}
            if association.is_established:
                assert association.acceptor.implementation_class_uid == IMPLEMENTATION_CLASS_UID
                association.release()
    finally:
        scp.stop()
    stated = {(row[1], row[3]) for row in rows(statement, "Presentation contexts that are accepted")}
    assert accepted == stated


def test_every_status_that_the_code_knows_is_stated() -> None:
    modules = (storage_scp, store_messages, header, reception)
    names = re.compile("_?(SUCCESS|PROCESSING_FAILURE|OUT_OF_RESOURCES|CANNOT_UNDERSTAND|DATA_SET_DOES_NOT_MATCH)")
    known = {value for module in modules for name, value in vars(module).items() if names.fullmatch(name)}
    assert known == set(SCP_STATUSES)
    assert f"deflated and of more than {header.INFLATED_MAX_BYTES >> 20} MiB" in SCP_STATUSES[0xC000][1]


def test_every_status_of_a_report_that_the_code_knows_is_stated() -> None:
    names = re.compile("_?(SUCCESS|PROCESSING_FAILURE|NO_SUCH_EVENT_TYPE|INVALID_ARGUMENT_VALUE|RESOURCE_LIMITATION)")
    known = {value for name, value in vars(commitment_reports).items() if names.fullmatch(name)}
    assert known == set(REPORT_STATUSES)
    assert f"{intake.LONGEST_OTHER_DATA_SET >> 20} MiB" in REPORT_STATUSES[0x0213][1]


@pytest.mark.parametrize(("stated", "does"), ASKED_STATUSES.items())
def test_what_is_stated_about_the_answer_to_a_question_is_done(stated: str, does: str) -> None:
    for status in re.findall(r"\b(?!0000|B000)[0-9A-F]{4}\b", stated) or (["A900"] if stated == "any other" else []):
        refused = isinstance(failure(SENDER, "C-FIND", int(status, 16), {}), ServiceRefusedError)
        assert does.startswith("the peer does not" if refused else "asks again later")


@pytest.mark.parametrize(("stated", "does"), SCU_STATUSES.items())
def test_what_is_stated_about_a_status_is_done(stated: str, does: str) -> None:
    for status in re.findall(r"\b[0-9A-F]{4}\b", stated) or (["A900", "C000"] if stated == "any other" else []):
        assert does.startswith(_outcome(int(status, 16)))


def _outcome(status: int) -> str:
    """How the statement's words begin for what the code does."""
    try:
        storage_scu.require_stored(SENDER, status, 1, 1)
    except RetryLaterError:
        return "tries again"
    except QuarantineSeriesError:
        return "the series"
    return "the instance is stored"


def test_every_setting_is_stated(statement: str) -> None:
    stated = {row[0] for row in rows(statement, "### 4.4")}
    assert stated == {key.strip("`") for key, _, _ in parameters(Settings, "")}
    shipped = tomllib.loads((REPOSITORY / "config" / "iscl-node.toml").read_text())
    for section, values in shipped.items():
        for key in values if isinstance(values, dict) else ():
            assert any(each.startswith(f"{section}.{key}") for each in stated), f"{section}.{key}"


def test_every_setting_has_its_sentence() -> None:
    told = [meaning for _, _, meaning in parameters(Settings, "")]
    assert len(told) > 60
    silent = [key for key, _, meaning in parameters(Settings, "") if not meaning.endswith((".", "..."))]
    assert silent == []


CHOSEN = {"spool_dir", "database_url", "peers", "rules"}
"""What the example file chooses, and what follows from that; all else in it is the default."""


def test_the_example_file_shows_every_setting_with_its_default() -> None:
    path = REPOSITORY / "config" / "iscl-node.toml"
    shipped = load_settings(path)
    assert {name for name in Settings.model_fields if getattr(shipped, name) != getattr(Settings(), name)} <= CHOSEN
    text = path.read_text(encoding="utf-8")
    for key, _, _ in parameters(Settings, ""):
        name = re.split(r"[ .]", key.strip("`"))[-1]
        assert re.search(rf"\b{name}\b", text), key


def test_what_is_derived_is_stated_with_its_class(statement: str) -> None:
    assert __version__ in statement.splitlines()[0]
    assert {row[1] for row in rows(statement, "#### 4.2.2")} == set(SENT)
    assert set(CT_STORAGE) <= set(SENT)


def test_every_code_that_the_code_chooses_is_stated(statement: str) -> None:
    stated = {tuple(row[:3]) for row in rows(statement, "### 8.3")}
    values = [each for module in (noise_map, report) for each in vars(module).values()]
    assert stated >= {(each.value, each.scheme_designator, each.meaning) for each in values if isinstance(each, Code)}
    assert stated >= {each for each in vars(provenance).values() if isinstance(each, tuple) and len(each) == 3}


def test_the_document_is_plain_text_without_what_differs_between_machines(statement: str) -> None:
    assert str(Path.home()) not in statement
    assert str(REPOSITORY) not in statement
