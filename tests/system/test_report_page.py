"""The page of a run in a real browser: legible in light and dark, on a wide screen and on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from scripts.views.report import Report
from tests.views.story import RUN, Story, broken, shipped, watch

pytestmark = pytest.mark.system
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
CONTRAST = """
() => {
  const channel = value => value <= 10 ? value / 255 / 12.92 : ((value / 255 + .055) / 1.055) ** 2.4;
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const light = color => {
    const [r, g, b] = parse(color).slice(0, 3).map(channel);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (parse(color)[3] !== 0) return color;
    }
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(ink), light(ground(element))].sort((x, y) => y - x);
    found.push([(a + .05) / (b + .05), walker.currentNode.data.trim()]);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(browser: Browser, story: Story, runs: Path, *, scheme: str = "light", width: int = 1100) -> Page:
    watch(Report(runs, warn=pytest.fail), story.events)
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(20_000)
    return page


def go(page: Page, runs: Path) -> tuple[list[str], list[str]]:
    """Open the page; return what it asked the network for and what the console complained about."""
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((runs / RUN / "report.html").as_uri())
    return asked, complaints


@pytest.mark.parametrize("story", [shipped("production"), broken()], ids=["shipped", "broken"])
def test_every_word_stands_out_from_its_ground(
    browser: Browser, story: Story, scheme: str, tmp_path: Path
) -> None:
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5 to 1."""
    page = opened(browser, story, tmp_path, scheme=scheme)
    go(page, tmp_path)
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 20
    assert [each for each in contrasts if each[0] < 4.5] == []


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_is_wider_than_the_window(browser: Browser, width: int, tmp_path: Path) -> None:
    page = opened(browser, broken(), tmp_path, width=width)
    go(page, tmp_path)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_asks_nobody_for_anything(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, shipped(), tmp_path)
    asked, complaints = go(page, tmp_path)
    assert asked == [(tmp_path / RUN / "report.html").as_uri()]
    assert complaints == []


def test_the_bars_are_drawn_where_the_stages_ran(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, shipped(), tmp_path)
    go(page, tmp_path)
    boxes = [bar.bounding_box() for bar in page.locator("svg .bar").all()]
    assert len(boxes) == 6
    lint, test, build, scan, push, deploy = (box for box in boxes if box is not None)
    assert lint["width"] < build["width"] < test["width"]
    assert build["x"] + build["width"] <= scan["x"] + 1
    assert test["x"] + test["width"] <= push["x"] + 1 <= deploy["x"] + 2


def test_a_reader_finds_the_failure_first(browser: Browser, tmp_path: Path) -> None:
    page = opened(browser, broken(), tmp_path)
    go(page, tmp_path)
    first = page.locator("main > section").first
    assert "1 of 8 tests failed" in first.inner_text()
    assert "invoke test --only" in first.inner_text()
    assert first.bounding_box()["y"] < 400  # type: ignore[index]
    assert page.title() == "push · staging · failure"
