"""The page in a real browser: every card, dialog, act and misfortune."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric.runtime.component import SECTIONS
from fabric.runtime.reports import ReportPublisher
from tests.browser.conftest import axe_script, overflow, violations
from tests.dashboard_world import HOSTILE, KINDS, ROWS, TOKEN, World, body, running

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("exports")) as here:
        yield here


@pytest.fixture(scope="module")
def signed_in(chromium: Any, world: World) -> Iterator[Any]:
    """A browser window that may order; fails on any script error or request that leaves the origin."""
    with window(chromium, world.url) as context:
        first = context.new_page()
        first.goto(world.server.one_time_url())
        first.close()
        yield context


@pytest.fixture(scope="module")
def shared(signed_in: Any, world: World) -> Iterator[Any]:
    """One page for the tests that leave it as they found it."""
    found = signed_in.new_page()
    ready(found, world.url)
    yield found
    found.close()


@pytest.fixture
def page(signed_in: Any, world: World) -> Iterator[Any]:
    found = signed_in.new_page()
    ready(found, world.url)
    yield found
    found.close()


@contextlib.contextmanager
def window(chromium: Any, url: str) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    origin = re.split(r"[?#]", url)[0]
    context.on("weberror", lambda found: faults.append(str(found.error)))
    context.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
    context.on("request", lambda request: None if request.url.startswith(origin) else faults.append(request.url))
    yield context
    context.close()
    assert faults == []


def ready(page: Any, url: str) -> None:
    page.goto(url)
    page.wait_for_selector(".connection[data-state=live]")
    page.wait_for_selector("#card-alerts .figure")


def opened(chromium: Any, url: str) -> Iterator[Any]:
    """Open the page in a window of its own, which has no session."""
    with window(chromium, url) as context:
        found = context.new_page()
        ready(found, url)
        yield found


def open_card(page: Any, section: str) -> None:
    page.locator(f"#card-{section} .open").click()
    page.wait_for_selector("#panel[open]")


@pytest.mark.item(104, 105)
@pytest.mark.parametrize("section", SECTIONS)
def test_a_card_opens_its_dialog_whose_table_counts_every_row(shared: Any, world: World, section: str) -> None:
    page = shared
    world.publish(section)
    open_card(page, section)
    page.locator(f"#tab-{KINDS[section]}").click()
    page.wait_for_selector(f"#panel .rows-count[data-total='{ROWS}']")
    assert page.locator("#panel tbody tr").count() == 100
    page.get_by_role("button", name="Next", exact=True).click()
    page.wait_for_selector("text=101–200 of 100,000")
    page.keyboard.press("Escape")
    assert page.locator("#panel[open]").count() == 0
    assert page.evaluate(f"document.activeElement === document.querySelector('#card-{section} .open')")


def test_the_search_asks_the_server(page: Any) -> None:
    open_card(page, "migration")
    page.locator("#tab-jobs").click()
    page.get_by_role("searchbox").fill("migration-001234")
    page.wait_for_selector("#panel .rows-count[data-total='1']")
    assert "sundials-001234" in page.locator("#panel tbody").inner_text()


def test_a_figure_names_its_source_when_pressed(shared: Any) -> None:
    page = shared
    figure = page.locator("#card-optimization .figure").first
    figure.click()
    assert "counted over 339 objects" in page.locator("#card-optimization .source").inner_text()
    assert figure.get_attribute("aria-expanded") == "true"
    figure.click()
    assert page.locator("#card-optimization .source").is_hidden()


@pytest.mark.item(100)
def test_a_change_of_a_file_and_an_edit_by_hand_reach_the_page(page: Any, world: World) -> None:
    world.publish("security", note="a new note from the engine")
    page.wait_for_selector("#card-security .note:has-text('a new note from the engine')")
    path = world.folder / SECTIONS["security"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"note": "by hand"}))
    page.wait_for_selector("#card-security[data-report=edited] .mark:has-text('not written by the fabric')")
    path.write_text("rubbish")
    page.wait_for_selector("#card-security[data-report=invalid] .mark:has-text('unreadable')")
    assert page.locator("#card-security .figure").count() == 4
    world.publish("security")
    page.wait_for_selector("#card-security[data-report=fresh]")


@pytest.mark.item(102)
def test_an_idle_page_asks_for_nothing(page: Any, world: World) -> None:
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    world.publish("streaming", note="pushed, not fetched")
    page.wait_for_selector("#card-streaming .note:has-text('pushed, not fetched')")
    page.wait_for_timeout(3000)
    assert asked == []


def test_an_approval_is_asked_for_and_ordered(page: Any, world: World) -> None:
    open_card(page, "migration")
    page.locator("#tab-jobs").click()
    page.locator("#panel td.acts button", has_text="Approve").first.click()
    assert "Approve?" in page.locator("#confirm").inner_text()
    page.locator("#confirm button[type=submit]").click()
    page.wait_for_selector("#confirm:not([open])", state="attached")
    assert world.ordered.acts[-1] == ("approve", "local", {"id": "migration-000000", "key": HOSTILE})


def test_the_bell_counts_and_an_alert_is_acknowledged(page: Any, world: World) -> None:
    world.publish("alerts")
    assert page.locator("#bell").get_attribute("aria-label") == "Alerts: 3, of which 1 critical"
    page.locator("#bell").click()
    page.wait_for_selector("#tab-active[aria-selected=true]")
    page.locator("#panel td.acts button", has_text="Acknowledge").first.click()
    page.locator("#confirm button[type=submit]").click()
    page.wait_for_selector("#confirm:not([open])", state="attached")
    assert world.ordered.acts[-1][0] == "acknowledge"


def test_a_freeze_has_a_name_and_a_reason(page: Any, world: World) -> None:
    page.locator("#freeze").click()
    page.locator("#confirm-name").fill("audit")
    page.locator("#confirm button[type=submit]").click()
    page.wait_for_selector("#confirm:not([open])", state="attached")
    assert world.ordered.acts[-1] == ("freeze", "local", {"name": "audit", "why": "looking into something"})


def test_a_stranger_sees_no_acts_until_he_signs_in(chromium: Any, world: World) -> None:
    for page in opened(chromium, world.url):
        open_card(page, "migration")
        page.locator("#tab-jobs").click()
        page.wait_for_selector("#panel tbody tr")
        assert page.locator("#panel td.acts").count() == 0
        page.keyboard.press("Escape")
        page.locator("#sign-in").click()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("#freeze:not([hidden])")


def test_a_hostile_key_is_text_everywhere(page: Any) -> None:
    open_card(page, "optimization")
    page.locator("#tab-decisions").click()
    page.locator("#panel .link").first.click()
    page.wait_for_selector("#object .timeline")
    assert page.locator("#object-title").inner_text() == HOSTILE
    assert page.title() == "Intelligent Data Fabric"
    assert page.locator("#object img, #panel img").count() == 0


def test_an_objects_page_shows_why_and_the_nine_stages(page: Any) -> None:
    open_card(page, "optimization")
    page.locator("#tab-decisions").click()
    page.locator("#panel .link").nth(1).click()
    page.wait_for_selector("#object .timeline")
    assert page.locator("#object .timeline > li").count() == 9
    assert page.locator("#object .why .bars li").count() == 4
    assert page.locator("#object .chart svg").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("#panel[open]").count() == 1


def test_an_address_opens_a_dialog(chromium: Any, world: World) -> None:
    for page in opened(chromium, f"{world.url}#card/streaming/windows"):
        page.wait_for_selector("#tab-windows[aria-selected=true]")
        assert page.locator("#panel[open]").count() == 1
        assert page.locator("#panel [aria-selected=true]").count() == 1


def test_the_scale_multiplies_money_alone_and_only_in_the_sample_world(page: Any) -> None:
    page.locator("#scale").select_option("1000")
    card = page.locator("#card-optimization .figures").inner_text()
    assert "$41.20" in card
    assert "339" in card


def test_an_own_world_has_no_scale_and_no_sample_mark(chromium: Any, tmp_path: Path) -> None:
    with running(tmp_path, world="own") as world:
        for page in opened(chromium, world.url):
            assert page.locator("#scale-label").is_hidden()
            assert page.locator("#card-migration .tag").is_hidden()
            assert page.locator("#world").inner_text() == "Your own stores"


def test_without_reports_each_card_says_what_is_missing(chromium: Any, tmp_path: Path) -> None:
    with running(tmp_path, publish=False) as world:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(world.url)
        page.wait_for_selector("#card-migration .note:has-text('python3 run_complete_system.py')")
        assert page.locator(".figure").count() == 0
        context.close()


def test_a_card_whose_next_report_is_overdue_turns_grey_with_its_age(chromium: Any, tmp_path: Path) -> None:
    with running(tmp_path) as world:
        for page in opened(chromium, world.url):
            publisher: ReportPublisher = world.publisher
            publisher.publish("migration", body("migration"), 0.5)
            page.wait_for_selector("#card-migration.stale .age:has-text('Overdue')", timeout=15_000)
            assert page.locator("#card-streaming.stale").count() == 0


def test_a_page_whose_server_ends_says_so_and_keeps_what_it_showed(chromium: Any, tmp_path: Path) -> None:
    with running(tmp_path) as world:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(world.url)
        page.wait_for_selector(".connection[data-state=live]")
    page.wait_for_selector(".connection[data-state=off]")
    assert page.locator(".connection[data-state=live]").count() == 0
    assert page.locator("#card-migration .figure").count() > 0  # what was last seen stays
    context.close()


@pytest.mark.item(107)
def test_nothing_overflows_from_a_telephone_to_a_large_screen(page: Any) -> None:
    for width in (360, 768, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert overflow(page) == []
    open_card(page, "migration")
    page.locator("#tab-jobs").click()
    page.wait_for_selector("#panel tbody tr")
    for width in (1440, 768, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert overflow(page) == []
    page.locator("#panel .link").first.click()
    page.wait_for_selector("#object .timeline")
    for width in (360, 768, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert overflow(page) == []


@pytest.mark.item(107)
def test_axe_finds_nothing(page: Any, world: World) -> None:
    script = axe_script()
    assert violations(page, script) == []
    page.locator("#card-migration .figure").first.click()
    open_card(page, "migration")
    assert violations(page, script) == []
    page.locator("#tab-jobs").click()
    page.wait_for_selector("#panel tbody tr")
    assert violations(page, script) == []
    page.locator("#panel .link").nth(1).click()
    page.wait_for_selector("#object .timeline")
    assert violations(page, script) == []
    page.keyboard.press("Escape")
    page.locator("#panel td.acts button").first.click()
    assert violations(page, script) == []
    page.goto(f"{world.url}login")
    assert violations(page, script) == []
