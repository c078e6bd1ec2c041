"""The page of a live node in a real browser: on a wide screen and on a phone, with mouse and keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, browser
from delivery import files_of, series_uid_of
from node import Node
from sending import MakeSeries, send

pytestmark = pytest.mark.peers

_UNNAMED = """[...document.querySelectorAll('button, a, input:not([type=hidden]), select, [role=slider], canvas[role]')]
  .filter(each => !(each.getAttribute('aria-label') || each.textContent.trim() || each.labels?.length || each.title))
  .map(each => each.outerHTML)"""
_WITHOUT_TEXT = "[...document.querySelectorAll('img:not([alt])')].length"
_TOO_WIDE = "document.documentElement.scrollWidth > innerWidth"
_CONTRAST = """(() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const back = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('main *, header *')]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .filter((e) => e.checkVisibility() && !e.closest('figure, .sr, option, :disabled'))
    .map((e) => [e, light(parse(getComputedStyle(e).color)), light(back(e))])
    .filter(([, a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5)
    .map(([e]) => e.outerHTML.slice(0, 200));
})()"""
"""Texts with less contrast than WCAG 2.2 asks for (1.4.3, AA)."""
_IS_DRAWN = "document.getElementById('viewer')?.dataset.drawn !== undefined"
_GRAY = """(() => {
  const canvas = document.querySelector('[data-pane=%s] canvas');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return data.reduce((sum, value, index) => index %% 4 ? sum : sum + value, 0) / (data.length / 4);
})()"""
_MIDDLE = """(() => {
  const box = document.querySelector('[data-pane=%s] canvas').getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""

_HANDLE = "(b => [b.x + b.width / 2, b.y + 40])(document.getElementById('divider').getBoundingClientRect())"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def delivered(shared_node: Node, make_series: MakeSeries) -> str:
    """Series Instance UID of what went through the node."""
    series = make_series(5, SeriesDescription="Thorax 1.5 mm")
    send(shared_node, files_of(series))
    uid = series_uid_of(series)
    shared_node.wait_for(lambda: shared_node.states(uid) == {"done"}, "the series is done")
    return uid


def viewer(window: Browser, node: Node, uid: str) -> None:
    window.open(f"http://127.0.0.1:{node.http_port}/series/{uid}")
    window.wait(_IS_DRAWN)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1400, 800, 390])
def test_the_pages_can_be_read_at_any_width(
    window: Browser, shared_node: Node, delivered: str, width: int, dark: bool
) -> None:
    window.look(width, 900, dark)
    for page in ("/", f"/series/{delivered}", "/quarantine", "/peers", "/settings", "/login"):
        window.open(f"http://127.0.0.1:{shared_node.http_port}{page}")
        if page.startswith("/series"):
            window.wait(_IS_DRAWN)
        assert window.run(_UNNAMED) == []
        assert window.run(_WITHOUT_TEXT) == 0
        assert window.run(_CONTRAST) == [], page
        assert not window.run(_TOO_WIDE), page
    assert window.errors == []


def test_the_queue_updates_by_itself(
    window: Browser, shared_node: Node, delivered: str, make_series: MakeSeries
) -> None:
    window.look()
    window.open(f"http://127.0.0.1:{shared_node.http_port}/")
    before = window.run("document.querySelectorAll('#rows tbody tr').length")
    assert before >= 1
    series = make_series(3, "later", SeriesDescription="Came later")
    send(shared_node, files_of(series))
    window.wait("document.getElementById('rows').textContent.includes('Came later')")
    window.wait("[...document.querySelectorAll('tr')].some(r => /done[^]*Came later/.test(r.textContent))")


def test_before_and_after_are_shown_and_slices_change_by_key_and_wheel(
    window: Browser, shared_node: Node, delivered: str
) -> None:
    window.look()
    viewer(window, shared_node, delivered)
    assert window.run("document.getElementById('slice-told').value") == "3 of 5"
    assert window.run(_GRAY % "source") > 1
    assert window.run(_GRAY % "derived") > 1
    window.run("document.getElementById('panes').focus()")
    window.press("ArrowDown")
    window.wait("document.getElementById('slice-told').value === '4 of 5'")
    x, y = window.run(_MIDDLE % "source")
    window.mouse("mouseWheel", x, y, deltaX=0, deltaY=-100)
    window.wait("document.getElementById('slice-told').value === '3 of 5'")


def test_windows_are_chosen_and_dragged(window: Browser, shared_node: Node, delivered: str) -> None:
    window.look()
    viewer(window, shared_node, delivered)
    window.run("document.querySelector('[data-window=\"-600,1500\"]').click()")
    window.wait("document.getElementById('window-told').textContent === 'Window -600 / 1500 HU'")
    x, y = window.run(_MIDDLE % "source")
    window.drag((x, y), (x + 100, y))
    window.wait("!document.getElementById('window-told').textContent.includes('1500')")


def test_the_value_under_the_pointer_is_told(window: Browser, shared_node: Node, delivered: str) -> None:
    window.look()
    viewer(window, shared_node, delivered)
    x, y = window.run(_MIDDLE % "source")
    window.mouse("mouseMoved", x, y)
    window.wait(r"/received -?\d+ HU, denoised -?\d+ HU, removed -?\d+ HU/.test(document.getElementById('hu').value)")


def test_the_divider_is_moved_by_mouse_and_by_keys(window: Browser, shared_node: Node, delivered: str) -> None:
    window.look()
    viewer(window, shared_node, delivered)
    window.run("document.querySelector('[data-layout=divider]').click()")
    x, y = window.run(
        "(b => [b.x + b.width / 2, b.y + 40])(document.getElementById('divider').getBoundingClientRect())"
    )
    window.drag((x, y), (x - 200, y))
    window.wait("Number(document.getElementById('divider').ariaValueNow) < 45")
    moved = window.run("Number(document.getElementById('divider').ariaValueNow)")
    window.run("document.getElementById('divider').focus()")
    window.press("ArrowRight")
    window.wait(f"Number(document.getElementById('divider').ariaValueNow) > {moved}")


def test_light_and_dark_are_remembered(window: Browser, shared_node: Node, delivered: str, tmp_path: Path) -> None:
    window.look()
    window.open(f"http://127.0.0.1:{shared_node.http_port}/")
    window.run("document.getElementById('theme').click()")
    window.open(f"http://127.0.0.1:{shared_node.http_port}/peers")
    assert window.run("document.documentElement.dataset.theme") == "dark"
    window.run("localStorage.clear()")
