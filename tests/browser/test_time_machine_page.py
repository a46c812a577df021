"""The time machine's page in a real browser: from an uploaded log to a clicked receipt, and its misfortunes."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import looked_at
from tests.dashboard_world import World
from tests.timemachine_world import access_log, inventory, invoice, with_time_machine

pytestmark = pytest.mark.browser
RESULT_MS = 240_000  # the first replay of a machine compiles its kernels
HOSTILE = 'photos/raw/"<img src=x onerror=1>.txt'


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path]]:
    folder = tmp_path_factory.mktemp("machine")
    (folder / "access.log").write_text(access_log())
    with with_time_machine(folder / "data", principal=_local) as (world, _machine):
        yield world, folder


def _local(who: Any) -> Any:
    from fabric.security.tokens import LOCAL
    from tests.timemachine_world import principal

    return LOCAL if who is not None and who.name == "local" else principal(who)


@contextlib.contextmanager
def window(chromium: Any, world: World, *, signed_in: bool = True) -> Iterator[Any]:
    """A page that fails on script errors, refused content and requests that leave the origin."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    faults: list[str] = []
    context.on("weberror", lambda found: faults.append(str(found.error)))
    context.on("console", lambda said: faults.append(said.text) if "Content Security" in said.text else None)
    context.on("request", lambda asked: None if asked.url.startswith(world.url) else faults.append(asked.url))
    page = context.new_page()
    if signed_in:
        page.goto(world.server.one_time_url())
    page.goto(f"{world.url}time-machine")
    page.wait_for_selector("form .check")
    yield page
    context.close()
    assert faults == []


def upload(page: Any, *files: Path, role: str = "accesses") -> None:
    page.set_input_files(f"input[name={role}]", [str(file) for file in files])


def press(page: Any, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


@pytest.fixture(scope="module")
def result(chromium: Any, here: tuple[World, Path]) -> Iterator[Any]:
    """The page after an uploaded log was replayed."""
    world, folder = here
    with window(chromium, world) as page:
        looked_at(page, "form")
        upload(page, folder / "access.log")
        press(page, "Replay")
        page.wait_for_selector(".objects tbody tr", timeout=RESULT_MS)
        yield page


def test_an_uploaded_log_becomes_a_table_of_every_policy(result: Any) -> None:
    policies = result.eval_on_selector_all(".policies tbody tr", "rows => rows.map((row) => row.dataset.policy)")
    assert {"all_hot", "intelligent_tiering", "optimum", "fabric", "last_access_30_90"} <= set(policies)
    assert result.locator(".policies meter").count() == len(policies)
    lead = result.locator(".lead").inner_text()
    assert "access.log" in lead
    assert "200 days" in lead
    looked_at(result, "result")


def test_the_price_of_the_gate_is_the_one_that_the_answer_states(
    chromium: Any, result: Any, here: tuple[World, Path]
) -> None:
    kept = document(result)
    assert kept["price_of_gate_usd"] == pytest.approx(
        kept["policies"]["fabric_gated"]["total"] - kept["policies"]["fabric"]["total"]
    )

    def dearer(route: Any) -> None:
        found = route.fetch().json()
        found["document"]["price_of_gate_usd"] = 1.5
        route.fulfill(json=found)

    with window(chromium, here[0]) as page:
        page.route(f"**/api/replays/{result.url.split('#')[0].rsplit('/', 1)[1]}", dearer)
        page.goto(result.url)
        said = page.locator("section[aria-label=Policies] .quiet").inner_text()
        assert said.endswith("The gates cost $1.50 here.")


def test_the_table_sorts_by_any_column_with_the_keyboard(result: Any) -> None:
    head = result.locator("th[data-name=storage]")
    head.locator("button").focus()
    result.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    storage = [row["storage"] for row in document(result)["sorted"]]
    assert storage == sorted(storage)
    result.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"


def document(page: Any) -> Any:
    """Return the result as the API gives it, and its storage lines in the order shown."""
    found = page.evaluate("fetch('/api/replays/' + location.pathname.split('/')[2]).then((answer) => answer.json())")
    shown = page.eval_on_selector_all(".policies tbody tr", "rows => rows.map((row) => row.dataset.policy)")
    policies = found["document"]["policies"]
    return found["document"] | {"sorted": [policies[name]["lines"] for name in shown]}


def test_rejected_lines_and_assumptions_are_said(result: Any) -> None:
    said = result.locator(".said-sheet").inner_text()
    assert "2 rejected" in said
    assert "this is no line of a log" in said
    assert "sized by the log's own object size" in said


def test_a_clicked_object_opens_its_receipt_and_the_command_line_gives_the_same_figure(
    result: Any, here: tuple[World, Path]
) -> None:
    result.get_by_role("searchbox").fill("IMG SRC")
    result.wait_for_selector(".objects .rows-count[data-total='1']")
    result.locator(".objects .link", has_text="onerror").click()
    result.wait_for_selector("#receipt .turns")
    assert result.locator("#receipt-title").inner_text() == HOSTILE
    assert result.locator("#receipt .sides tbody tr").count() == 7
    assert "reads a month" in result.locator("#receipt .turns").inner_text()
    assert "the same figures" in result.locator("#receipt .why").inner_text()
    assert len(result.locator("#receipt .input-hash").inner_text()) == 24
    looked_at(result, "receipt")
    words = shlex.split(result.locator("#receipt .replay-command").inner_text())
    receipt = on_the_command_line(words, here[1])
    shown = result.locator("#receipt td[data-total=fabric]").inner_text()
    assert float(shown.strip("$")) == pytest.approx(receipt["sides"]["fabric"]["total"], rel=0.01)
    number = result.url.split("/")[-1]
    kept = result.evaluate("(number) => fetch(`/api/replays/${location.pathname.split('/')[2]}/objects/${number}`)"
                           ".then((answer) => answer.json())", number)  # fmt: skip
    assert kept["sides"] == receipt["sides"]
    assert kept["gate"] == receipt["gate"]
    assert result.locator("#receipt .object-hash").inner_text() == kept["hash"] == receipt["hash"]
    assert result.locator("#receipt .gate tbody tr").count() == len(kept["gate"]["moves"])
    assert "makes one or uses one" in result.locator("#receipt .missing").inner_text()
    result.keyboard.press("Escape")
    assert result.locator("#receipt[open]").count() == 0


def on_the_command_line(words: list[str], folder: Path) -> Any:
    """Run the printed command where the log lies."""
    home = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, *words[1:], "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(home)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return json.loads(done.stdout)


def test_an_invoice_is_laid_beside_the_replay(chromium: Any, here: tuple[World, Path], tmp_path: Path) -> None:
    (tmp_path / "cur.csv").write_text(invoice())
    (tmp_path / "inventory.csv").write_text(inventory())
    with window(chromium, here[0]) as page:
        upload(page, here[1] / "access.log")
        upload(page, tmp_path / "inventory.csv", role="inventory")
        upload(page, tmp_path / "cur.csv", role="bill")
        press(page, "Replay")
        page.wait_for_selector(".objects tbody tr", timeout=RESULT_MS)
        assert page.locator(".head[data-who=paid] strong").inner_text().startswith("$0.5")
        assert "Storage" in page.locator("section[aria-label=Invoice] table").inner_text()
        looked_at(page, "invoice")


def test_address_ranges_tell_that_these_readers_pay_no_egress(
    chromium: Any, here: tuple[World, Path], tmp_path: Path
) -> None:
    near = {"prefixes": [{"ip_prefix": "192.0.2.0/24", "region": "us-east-1"}]}
    (tmp_path / "ranges.json").write_text(json.dumps(near))
    with window(chromium, here[0]) as page:
        for ranges, nobody_pays in (([], False), ([tmp_path / "ranges.json"], True)):
            page.goto(f"{here[0].url}time-machine")
            upload(page, here[1] / "access.log")
            upload(page, *ranges, role="ranges")
            press(page, "Replay")
            page.wait_for_selector(".objects tbody tr", timeout=RESULT_MS)
            assert (document(page)["egress"]["high"] == 0.0) == nobody_pays
            said = page.locator("section[aria-label=Policies] .quiet").inner_text()
            assert ("costs $0.00 to $0.00 under every policy" in said) == nobody_pays


def test_an_inventory_alone_is_priced_with_best_and_worst_cases(
    chromium: Any, here: tuple[World, Path], tmp_path: Path
) -> None:
    (tmp_path / "inventory.csv").write_text(inventory())
    with window(chromium, here[0]) as page:
        upload(page, tmp_path / "inventory.csv", role="inventory")
        press(page, "Replay")
        page.wait_for_selector("section[aria-label='Break-evens'] tbody tr", timeout=RESULT_MS)
        assert "put-bucket-logging" in page.locator("section[aria-label=Logging]").inner_text()
        looked_at(page, "inventory")


def test_a_shared_address_shows_the_result_and_the_receipt_to_whoever_only_looks(
    chromium: Any, result: Any, here: tuple[World, Path]
) -> None:
    address = result.url.split("#")[0]
    with window(chromium, here[0], signed_in=False) as page:
        page.goto(f"{address}#object/0")
        page.wait_for_selector("#receipt .turns")
        assert page.locator(".policies tbody tr").count() > 10


def test_a_viewer_without_a_token_cannot_start_a_replay(chromium: Any, here: tuple[World, Path]) -> None:
    with window(chromium, here[0], signed_in=False) as page:
        assert page.get_by_role("button", name="Replay", exact=True).is_disabled()
        assert page.get_by_role("link", name="Sign in").is_visible()
        status = page.evaluate("fetch('/api/replays', {method: 'POST', body: '{}'}).then((answer) => answer.status)")
        assert status == 401


def test_a_file_that_is_no_log_gives_one_clear_sentence(
    chromium: Any, here: tuple[World, Path], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("dear diary\n" * 50)
    with window(chromium, here[0]) as page:
        upload(page, tmp_path / "notes.txt")
        press(page, "Replay")
        page.wait_for_selector(".problem:not(:empty)", timeout=RESULT_MS)
        said = page.locator(".problem").inner_text()
        assert "notes.txt" in said
        assert "timemachine" not in said  # where it lay is nobody's business
        assert page.get_by_role("button", name="Replay", exact=True).is_enabled()
        looked_at(page, "problem")


def test_nothing_chosen_is_said_at_once(chromium: Any, here: tuple[World, Path]) -> None:
    with window(chromium, here[0]) as page:
        press(page, "Replay")
        assert page.locator(".problem").inner_text() == "Choose an access log or an inventory first."


def test_a_replay_under_way_shows_its_progress_and_can_be_cancelled(
    chromium: Any, here: tuple[World, Path], tmp_path: Path
) -> None:
    (tmp_path / "large.log").write_text(access_log(objects=300, days=900))
    with window(chromium, here[0]) as page:
        upload(page, tmp_path / "large.log")
        press(page, "Replay")
        page.wait_for_selector(".steps [data-step=now]")
        assert "large.log" in page.locator("main h2").inner_text()
        press(page, "Cancel")
        page.wait_for_selector(".problem:has-text('cancelled')")
        assert here[0].url in page.url
        found = page.evaluate("fetch('/api/replays').then((answer) => answer.json())")
        assert found["running"] is None
    left = [path.name for path in (here[1] / "data" / "timemachine").rglob("large.log")]
    assert left == []


def test_the_placement_card_and_its_dialog_lead_to_the_time_machine(chromium: Any, here: tuple[World, Path]) -> None:
    with window(chromium, here[0]) as page:
        page.goto(here[0].url)
        page.wait_for_selector("#card-optimization .figure")
        page.locator("#card-optimization .open").click()
        page.locator("#panel").get_by_role("link", name="Time machine").click()
        page.wait_for_selector("form .check")
        page.goto(here[0].url)
        page.locator("#card-optimization .machine-link").click()
        page.wait_for_selector("form .check")
