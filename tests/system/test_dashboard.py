"""The dashboard in a real browser: what it shows, how it reads, and that it asks nobody else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.app import events as made
from tests.app.conftest import migrated_file  # noqa: F401 - a fixture
from tests.app.test_server import JSON, Service, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.system
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
STAGES = ("lint", "test", "build", "scan", "push", "deploy")


@pytest.fixture(scope="module")
def service(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:  # noqa: F811
    """The real service with a day of runs in it."""
    folder = tmp_path_factory.mktemp("dashboard")
    path = shutil.copy(migrated_file, folder / "ledger.sqlite3")
    with serving(folder, DB_SQLITE_PATH=str(path)) as running:
        deliver(running, a_day())
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM.exists(), "install Debian's chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser, service: Service) -> Iterator[Callable[..., Page]]:
    """Open a path; afterwards nothing may have been said on the console or asked of another host."""
    origin = f"http://127.0.0.1:{service.port}/"
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def opened(path: str = "", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        answer = page.goto(origin + path)
        assert answer is not None
        page.wait_for_load_state("networkidle")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(origin)] == []


def deliver(service: Service, events: list[dict[str, Any]]) -> None:
    assert service.ask("POST", "/api/v1/events", json.dumps(events), JSON)[0] == 200


def deploying(run: str, begin: float, environment: str, **more: Any) -> list[dict[str, Any]]:
    """A run with all stages, three of them side by side."""
    times = {"lint": (0, 6.2), "test": (0, 21.4), "build": (0.1, 9.8), "scan": (9.9, 4.1)}
    times |= {"push": (21.4, 0.6), "deploy": (22, 8)}
    bad = more.get("result") == "failure"
    stages = [
        made.stage(
            name,
            begin=begin + start,
            seconds=seconds,
            result="failure" if bad and name == "deploy" else "success",
            figures={"coverage": 94.1, "tests": 812, "failed": 0} if name == "test" else {},
        )
        for name, (start, seconds) in times.items()
    ]
    return made.whole_run(run, begin=begin, environment=environment, stages=stages, **more)


def a_day() -> list[dict[str, Any]]:
    """Runs of the last day, counted from now so that ages read as in life."""
    made.START = datetime.now(UTC) - timedelta(hours=24)
    try:
        old, new = {"digest": "sha256:" + "9b" * 32}, {"digest": "sha256:" + "c4" * 32}
        skipped = [made.stage(n, result="skipped", seconds=0.0, started=None) for n in STAGES[:-1]]
        shipped = [*skipped, made.stage("deploy", begin=70_000, seconds=8)]
        return [
            *deploying("run-1", 0, "staging", actor="grace", **old),
            *deploying("run-2", 4_000, "production", actor="ci", **old),
            *deploying("run-3", 60_000, "staging", result="failure", deployed="rolled_back", **new),
            *made.whole_run("run-4", begin=70_000, command="ship", stages=shipped),
            *deploying("run-5", 86_000, "development")[:2],
        ]
    finally:
        made.START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_it_shows_what_runs_where(visit: Callable[..., Page]) -> None:
    page = visit()
    assert page.title() == "What runs where · Slipway"
    cards = [card.inner_text() for card in page.locator(".card").all()]
    assert [card.splitlines()[0] for card in cards[:3]] == ["production", "staging", "development"]
    assert "9b9b9b9b9b9b" in cards[1]
    assert "rolled back" in cards[1]
    assert "rolled back" not in cards[0] + cards[2]


def test_it_shows_the_last_runs_with_their_stages_as_a_picture(visit: Callable[..., Page]) -> None:
    page = visit()
    rows = page.locator(".runs > li")
    assert rows.first.locator(".badge").inner_text() == "running"
    staging = rows.filter(has_text="to staging").first
    bars = staging.locator("svg.timeline > rect")
    assert bars.count() == len(STAGES)
    boxes = {bar.locator("title").text_content(): bar.bounding_box() for bar in bars.all()}
    frame = staging.locator("svg.timeline").bounding_box()
    assert frame is not None
    for name, box in boxes.items():
        assert box is not None, name
        assert box["width"] >= 1
        assert frame["x"] - 1 <= box["x"]
        assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
    assert len({tuple(box.values()) for box in boxes.values() if box}) == len(STAGES)


def test_a_run_is_one_click_away_with_all_its_stages(visit: Callable[..., Page]) -> None:
    page = visit()
    page.locator(".runs").get_by_role("link", name="deploy to staging").first.click()
    page.wait_for_load_state("networkidle")
    assert page.url.endswith("/runs/run-3")
    assert page.locator("h1 .badge").inner_text() == "failure"
    assert page.locator(".stagetable tbody tr").count() == len(STAGES)
    page.get_by_role("link", name="All runs").click()
    assert page.locator("h1").inner_text() == "What runs where"


@pytest.mark.parametrize("path", ["", "runs/run-3", "runs/unknown"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(browser: Browser, service: Service, path: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"http://127.0.0.1:{service.port}/{path}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_light_and_dark(visit: Callable[..., Page], scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 to 1 at least, for every piece of text."""
    for path in ("", "runs/run-3"):
        page = visit(path, color_scheme=scheme)
        assert page.evaluate(CONTRASTS) == []


def test_it_can_be_used_by_keyboard_and_read_aloud(visit: Callable[..., Page]) -> None:
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.get_by_role("img", name="lint success in 6.2 s").count() >= 1
    assert page.locator("h1").count() == 1
    unnamed = page.evaluate(
        "[...document.querySelectorAll('a, button')].filter(e => !e.textContent.trim()).length"
    )
    assert unnamed == 0


def test_it_keeps_itself_current_unless_it_is_paused(visit: Callable[..., Page], service: Service) -> None:
    """The clock of the page is turned on instead of waited for."""
    page = visit()
    page.clock.install()
    page.reload()
    page.wait_for_load_state("networkidle")
    deliver(service, deploying("run-01", -200_000, "testing"))
    page.clock.run_for(16_000)
    page.get_by_role("heading", name="testing").wait_for(timeout=10_000)
    button = page.get_by_role("button", name="Live")
    button.click()
    assert page.locator("#live").inner_text() == "Paused"
    deliver(service, deploying("run-02", -199_000, "rehearsal"))
    page.clock.run_for(60_000)
    page.wait_for_load_state("networkidle")
    assert page.get_by_role("heading", name="rehearsal").count() == 0
    page.get_by_role("button", name="Paused").click()
    page.clock.run_for(16_000)
    page.get_by_role("heading", name="rehearsal").wait_for(timeout=10_000)


def test_it_is_the_same_page_without_scripts(visit: Callable[..., Page]) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator(".card").count() >= 3
    assert not page.locator("#live").is_visible()


CONTRASTS = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || element.closest('svg') || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${element.textContent.trim()} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
