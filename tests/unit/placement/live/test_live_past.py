"""A long past is read by a process of its own: the same bits, and whoever is killed, nothing is lost or left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from live_rows import DAY, STORE, Feed, batch_of, cuts, random_rows, replayed, tariff

from fabric.core.errors import UnavailableError
from fabric.events.build import access_batch
from fabric.placement.live import keeper
from fabric.placement.live.elsewhere import COMPILE_LEAST, PREFIX, ChildPast, pays_to_compile
from fabric.placement.live.keeper import Ledgers
from fabric.placement.live.past import PROGRESS_FILE, READ_FILE, Question, decoded, encoded, read
from fabric.placement.live.shelf import Shelf
from fabric.placement.replay.gated import GATE
from fabric.placement.replay.trace import Rows

ROOT = Path(__file__).parents[4]
DAYS = 150


class Beside(Feed):
    """A feed whose long pasts are read by another process."""

    def opened(self) -> Ledgers:
        self.past = ChildPast(self.folder / "ledger")
        stores, path = {STORE: self.prices}, self.folder / "ledger"
        return Ledgers(path, stores, self.log, self.clock, terms=self.terms, elsewhere=self.past)


@pytest.fixture(autouse=True)
def every_past_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "PAST_WORK", 20)


def whole(rows: Rows, feed: Feed) -> Feed:
    """Let a feed come to the end of some rows at once, as a past that is imported."""
    feed.clock.advance(float(rows.time[-1]) + 60.0)
    feed.log.append(batch_of(rows, slice(None)))
    return feed


def question(feed: Feed, snapshot: Path) -> Question:
    return Question(str(feed.log.folder), feed.log.end, str(snapshot), {STORE: feed.prices}, GATE, [], 0, False)


def left(folder: Path) -> list[Path]:
    return list((folder / "ledger").glob(f"{PREFIX}*"))


def test_a_past_read_by_another_process_is_decided_about_as_in_the_replay_bit_for_bit(tmp_path: Path) -> None:
    rows, prices = random_rows(4, days=DAYS), tariff()
    feed, here = Beside(tmp_path / "beside", prices), Feed(tmp_path / "here", prices)
    begun = []
    for at in cuts(np.random.default_rng(4), len(rows.time), 3):
        for one in (feed, here):
            one.log.append(batch_of(rows, at))
        feed.ledgers.follow()  # rows are taken here, and the days that fall due elsewhere
        feed.ledgers.follow()
        begun.append(feed.past.under_way)
        assert feed.ledgers.elsewhere == feed.past.under_way
        feed.ledgers.catch_up()
        here.ledgers.catch_up()
    for one in (feed, here):
        one.end_day(int(rows.time[-1]) // DAY)
        one.ledgers.snapshot()

    assert any(begun)
    assert feed.decided == here.decided == replayed(rows, prices)
    ours, theirs = ((one.folder / "ledger" / "ledger.snapshot").read_bytes() for one in (feed, here))
    assert ours == theirs
    assert not left(feed.folder)


def test_a_process_that_is_killed_is_said_and_the_past_is_read_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, prices = random_rows(5, days=DAYS), tariff()
    feed = whole(rows, Beside(tmp_path, prices))
    while not feed.past.under_way:
        assert feed.ledgers.follow()
    assert feed.past.pid is not None
    os.kill(feed.past.pid, signal.SIGKILL)

    with caplog.at_level(logging.ERROR):
        feed.end_day(int(rows.time[-1]) // DAY)

    said = [record for record in caplog.records if "long past" in record.message]
    assert len(said) == 1
    assert "ended early" in said[0].reason
    assert feed.decided == replayed(rows, prices)
    assert not left(tmp_path)


def test_a_process_whose_snapshot_is_damaged_leaves_its_reason(tmp_path: Path) -> None:
    feed = whole(random_rows(5, days=20, rows=60), Beside(tmp_path, tariff()))
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"FABLEDG\n and nothing more")
    feed.past.begin(question(feed, damaged))

    with pytest.raises(UnavailableError) as caught:
        answered(feed.past)

    assert "snapshot is damaged" in caught.value.hint


def answered(past: ChildPast) -> Path:
    while (found := past.poll()) is None:
        time.sleep(0.02)
    return found


ENGINE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_live_past import Beside, keeper, random_rows, tariff, whole
keeper.PAST_WORK = 20
feed = whole(random_rows(6, days=900, rows=4000), Beside(Path(sys.argv[1]), tariff()))
while not feed.past.under_way:
    feed.ledgers.follow()
print(feed.past.pid, flush=True)
time.sleep(60)
"""


def test_an_engine_that_is_killed_takes_the_process_with_it_and_the_next_reads_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENGINE, str(tmp_path), str(Path(__file__).parent)]
    engine = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    assert engine.stdout is not None
    with engine.stdout:
        child = int(engine.stdout.readline())
    engine.kill()
    engine.wait()

    ended = time.monotonic() + 10.0
    while _runs(child):
        assert time.monotonic() < ended, "the process outlived its engine"
        time.sleep(0.02)
    rows, feed = random_rows(6, days=900, rows=4000), Beside(tmp_path, tariff())
    assert not left(tmp_path)
    feed.clock.advance(float(rows.time[-1]) + 60.0)
    feed.end_day(int(rows.time[-1]) // DAY)
    assert feed.decided == replayed(rows, feed.prices)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_progress_is_told_while_another_process_reads(tmp_path: Path) -> None:
    feed = whole(random_rows(7, days=DAYS), Beside(tmp_path, tariff()))
    while not feed.past.under_way:
        feed.ledgers.follow()
    before = feed.ledgers.progress()[0]
    while not (one := feed.past).far().days and one.under_way:
        time.sleep(0.01)
    assert feed.ledgers.reading == {STORE}
    assert feed.ledgers.progress()[0].days_closed > before.days_closed
    feed.ledgers.catch_up()
    assert feed.ledgers.reading == frozenset()


def test_what_is_asked_of_the_process_arrives_as_it_was_given(tmp_path: Path) -> None:
    asked = question(Feed(tmp_path, tariff()), tmp_path / "none")

    again = decoded(encoded(asked))

    assert encoded(again) == encoded(asked)
    assert again.terms == asked.terms
    assert again.tariffs[STORE].storage.tolist() == asked.tariffs[STORE].storage.tolist()
    assert again.tariffs[STORE].storage.dtype == np.float64


def test_the_process_reads_no_row_beyond_the_offset_that_it_was_told(tmp_path: Path) -> None:
    feed = whole(random_rows(8, days=20, rows=60), Feed(tmp_path, tariff()))
    asked = question(feed, tmp_path / "none")
    feed.log.append(access_batch([feed.clock.now()], ["later"], [1], [1.0], size=[1.0], store=[STORE]))

    read(asked, tmp_path)

    shelf = Shelf(tmp_path, {STORE: feed.prices}, GATE, ())
    kept = shelf.read(tmp_path / READ_FILE)
    assert kept is not None
    assert kept[0].offset == asked.end < feed.log.end
    assert (tmp_path / PROGRESS_FILE).exists()


def test_a_past_read_compiled_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    feed = whole(random_rows(9, days=60, rows=200), Feed(tmp_path, tariff()))
    kept = []
    for compiling in (False, True):
        shelf = Shelf(tmp_path, {STORE: feed.prices}, GATE, (), compiling=compiling)
        shelf.feed(feed.log)
        while (book := shelf.due()) is not None:
            book.close_day()
        shelf.save(tmp_path / "kept")
        kept.append((tmp_path / "kept").read_bytes())

    assert kept[0] == kept[1]


def test_a_past_is_compiled_where_it_is_big_alone() -> None:
    assert not pays_to_compile(COMPILE_LEAST - 1)
    assert pays_to_compile(COMPILE_LEAST)
