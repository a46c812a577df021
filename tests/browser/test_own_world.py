"""The page over stores of one's own: every listed object and every audit line can be reached, on any screen."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import looked_at
from tests.own.program import Program, program, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FILES = int(os.environ.get("FABRIC_OWN_FILES", "1200"))
FREEZES = 60


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("own")
    for number in range(FILES):
        path = folder / "nas" / f"year {number % 7}" / f"film {number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with program(folder, ["--store", f"nas={folder / 'nas'}"]) as running:
        until(lambda: total(running) == FILES, seconds=60, what="the scan")
        feed(running)
        for _ in range(FREEZES):
            for act in ("freeze", "unfreeze"):
                order(running, act)
        yield running


def total(running: Program) -> int:
    """Return how many objects are listed on the card."""
    tables = running.get("/api/status")["optimization"].get("tables", {})
    return int(tables.get("listed_objects", {}).get("total", 0))


def order(running: Program, act: str) -> None:
    body = json.dumps({"name": "n", "why": "the test asks"}).encode()
    answer = running.ask("POST", f"/api/acts/{act}", body=body, headers={"Content-Type": "application/json"})
    assert answer.status == 200, answer.body


def feed(running: Program) -> None:
    """Tell of 30 reads of one file."""
    key, reads = "nas/year 2/film 000009.bin", 30
    running.events(
        time=[time.time()] * reads, key=[key] * reads, op=["read"] * reads, bytes=[1] * reads, size=[1] * reads
    )


@pytest.fixture
def page(chromium: Any, own: Program) -> Iterator[Any]:
    found = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
    found.goto(own.url)
    found.wait_for_selector("#card-optimization .figure")
    yield found
    found.context.close()


def opened(page: Any, section: str, kind: str) -> None:
    page.locator(f"#card-{section} .open").click()
    page.locator(f"#tab-{kind}").click()
    page.wait_for_selector("#panel .rows-count[data-total]")


def test_an_adopted_object_is_found_among_all_and_opens_its_own_page(page: Any) -> None:
    opened(page, "optimization", "listed_objects")
    page.wait_for_selector(f"#panel .rows-count[data-total='{FILES}']")
    assert "Listed objects" in page.locator("#tab-listed_objects").inner_text()
    page.get_by_role("button", name="Next", exact=True).click()
    page.wait_for_selector("#panel .rows-count:has-text('101–200')")
    looked_at(page, "listed")
    page.get_by_role("searchbox").fill("film 000009")
    page.wait_for_selector("#panel .rows-count[data-total='1']")
    page.locator("#panel .link", has_text="nas/year 2/film 000009.bin").click()
    page.wait_for_selector("#object .timeline")
    assert "nas/year 2/film 000009.bin" in page.locator("#object").inner_text()
    looked_at(page, "listed-object")


def test_the_bill_says_for_how_many_objects_reads_are_known(page: Any, own: Program) -> None:
    def known() -> bool:
        rows = own.get("/api/pages/optimization/bill?limit=100")["rows"]
        return any(row["reads_known"].startswith("1 of") for row in rows)

    until(known, seconds=60, what="the reads in the bill")
    opened(page, "optimization", "bill")
    page.wait_for_selector("#panel td:has-text('30 reads in 30 days')")
    of_the_year = len([number for number in range(FILES) if number % 7 == 2])
    row = page.locator("#panel tbody tr", has_text="30 reads in 30 days").inner_text()
    assert "year 2/" in row
    assert f"1 of {of_the_year} objects: 30 reads in 30 days" in row
    looked_at(page, "bill")


def test_the_showback_tab_shares_the_bill_out_by_prefix_and_by_requester_and_names_its_source(
    page: Any, own: Program
) -> None:
    page.locator("#card-optimization .open").click()
    page.locator("#tab-showback").click()
    page.wait_for_selector("#panel .rows-count[data-total]")
    rows = page.locator("#panel tbody tr")
    assert rows.count() == 7
    assert "nas/year 2" in page.locator("#panel tbody").inner_text()
    note = page.locator("#panel .paged .note").inner_text()
    assert "30 accesses that the fabric recorded" in note
    assert f"{FILES:,} of the last scans" in note
    page.get_by_role("button", name="By requester").click()
    page.wait_for_selector("#panel td:has-text('(read by nobody)')")
    assert page.get_by_role("button", name="By requester").get_attribute("aria-pressed") == "true"
    looked_at(page, "showback")


def test_audit_lines_older_than_the_newest_hundred_are_reached(page: Any) -> None:
    opened(page, "security", "audit")
    page.get_by_role("button", name="Next", exact=True).click()
    page.wait_for_selector("#panel .rows-count:has-text('101–')")
    assert page.locator("#panel tbody tr").count() > 0
    looked_at(page, "audit")
    page.get_by_role("searchbox").fill("unfreeze")
    page.wait_for_selector(f"#panel .rows-count[data-total='{FREEZES}']")
    assert page.locator("#panel tbody tr").count() == FREEZES
