"""One Chromium for the browser tests; they are skipped, with the reason, where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
AXE_PLACES = (REPO / "node_modules/axe-core/axe.min.js", REPO / ".cache/axe/node_modules/axe-core/axe.min.js")
PICTURES = os.environ.get("FABRIC_PICTURES")  # a folder for screenshots
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser; FABRIC_CHROMIUM names another one. One without a window of its own draws with less."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make setup")
    program = os.environ.get("FABRIC_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no chromium on this machine: make setup, or name one in FABRIC_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


def axe_script() -> str:
    """Return axe-core's text; skips the test where it is not installed."""
    named = os.environ.get("FABRIC_AXE")
    places = [Path(named)] if named else [place for place in AXE_PLACES if place.exists()]
    if not places:
        pytest.skip("axe-core is not installed: make setup, or name axe.min.js in FABRIC_AXE")
    return places[0].read_text(encoding="utf-8")


def violations(page: Any, script: str) -> Any:
    """Return what axe finds wrong on the page as it is now."""
    page.evaluate(script)
    return page.evaluate(
        "async () => (await axe.run()).violations.map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 120))])"
    )


def overflow(page: Any) -> Any:
    """Return what sticks out of the window, scrolling boxes' own content left out."""
    return page.evaluate(
        """() => [...document.querySelectorAll('body, body *')].filter((e) => !e.closest('.scroll, .tabs, .skip, svg')
             && e.getBoundingClientRect().width && e.getBoundingClientRect().right > innerWidth + 1)
             .map((e) => e.tagName + '.' + e.className)"""
    )


def looked_at(page: Any, name: str) -> None:
    """Axe finds nothing and nothing sticks out, from a telephone to a large screen."""
    script = axe_script()
    for width in (1440, 390, 360):
        page.set_viewport_size({"width": width, "height": 900})
        assert overflow(page) == []
        assert violations(page, script) == []
        if PICTURES:
            page.screenshot(path=str(Path(PICTURES) / f"{name}-{width}.png"))
    page.set_viewport_size({"width": 1440, "height": 900})
