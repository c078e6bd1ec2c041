"""Holes that pages of other DICOM routers had (mercure 0.4.1's advisories), each tried here.

Path traversal, values as HTML or templates, and forged hosts are tried in `test_pages`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import ct_dataset
from starlette.testclient import TestClient

import iscl_node
from iscl_node.dicom.selecting.rules import decide
from iscl_node.domain import Peer, Rule
from iscl_node.errors import QuarantineSeriesError
from iscl_node.metrics import Metrics
from iscl_node.web.access import Access
from iscl_node.web.app import web_app
from iscl_node.web.pages import PageParts, Pages
from iscl_node.web.passwords import password_hash

PACKAGE = Path(iscl_node.__file__).parent
CODE = ("eval", "exec", "compile", "system", "popen")
"""Calls that make code, or a command of a shell, of text."""


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_no_text_becomes_code_or_a_command() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        for call in calls(ast.parse(path.read_text())):
            named = call.func.id if isinstance(call.func, ast.Name) else ""
            asked = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            is_module = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in ("os", "builtins")
            has_shell = any(word.arg == "shell" for word in call.keywords)
            if named in CODE or (is_module and asked in CODE) or has_shell:
                found.append(f"{path}:{call.lineno}")
    assert found == []


def test_what_a_rule_says_is_compared_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    rule = Rule("code", {"SeriesDescription": code}, "full", (1.0,), " x", ("pacs",))
    with pytest.raises(QuarantineSeriesError):
        decide([rule], [ct_dataset(SeriesDescription="THORAX")], 1)
    assert not mark.exists()


@pytest.fixture
def parts() -> PageParts:
    nothing: list[object] = [None] * 5
    return PageParts(*nothing, (Peer("pacs", "PACS", "127.0.0.1", 104),), dict, lambda _name: 0.0, {}, "node-1", "1")  # type: ignore[arg-type]


def test_nobody_can_log_in_as_long_as_no_user_is_named(parts: PageParts, metrics: Metrics) -> None:
    client = TestClient(web_app(metrics.registry, dict, pages=Pages(parts, Access({}))), base_url="http://localhost")
    for user, password in (("admin", "admin"), ("admin", ""), ("", ""), ("router", "router")):
        assert client.post("/login", data={"user": user, "password": password}).status_code == 403


def test_no_route_changes_a_password_or_a_user(parts: PageParts) -> None:
    paths = {route.path for route in Pages(parts, Access({})).routes() if "POST" in (route.methods or ())}
    assert not [path for path in paths if "user" in path or "password" in path]


def test_one_users_password_opens_no_other_users_session(parts: PageParts, metrics: Metrics) -> None:
    users = {"anna": password_hash("correct horse"), "ben": password_hash("battery staple")}
    client = TestClient(web_app(metrics.registry, dict, pages=Pages(parts, Access(users))), base_url="http://localhost")
    assert client.post("/login", data={"user": "ben", "password": "correct horse"}).status_code == 403
    answer = client.post("/login", data={"user": "{{ 7 * 7 }}", "password": "x"})
    assert (answer.status_code, "49" in answer.text) == (403, False)
