"""What may befall the live ledger: late rows, a torn or missing file, a cut log, objects deleted by nobody's store."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from live_rows import DAY, START, STORE, Feed, batch_of, random_rows, tariff

from fabric.events.batch import Op
from fabric.events.build import access_batch
from fabric.placement.live.keeper import PAST_QUIET_SECONDS, Ledgers
from fabric.placement.live.receipt import holds
from fabric.placement.replay.ledger import Terms
from fabric.placement.replay.tariff import tariff_of
from fabric.pricing.sheet import PriceBook

ALL = slice(None)


def fed(folder: Path, seed: int = 3) -> Feed:
    feed = Feed(folder, tariff())
    rows = random_rows(seed, days=60, rows=150)
    feed.give(batch_of(rows, ALL))
    feed.end_day(int(rows.time[-1]) // DAY)
    return feed


def one(feed: Feed, key: str, op: Op, at: float, *, size: float = 1e9, store: str = STORE) -> None:
    feed.give(access_batch([START + at], [key], [int(op)], [size], size=[size], store=[store]))


@pytest.mark.parametrize("damage", ["gone", "torn", "another format"])
def test_a_ledger_whose_file_is_gone_or_damaged_is_rebuilt_from_the_event_log(tmp_path: Path, damage: str) -> None:
    feed = fed(tmp_path)
    before, path = feed.decided, tmp_path / "ledger" / "ledger.snapshot"
    feed.ledgers.snapshot()
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[8] += 1
        path.write_bytes(data)

    feed.crash()
    feed.ledgers.catch_up()
    day = int(feed.clock.now() // DAY) - 1
    feed.end_day(day - START // DAY)

    assert [row for row in feed.decided if row[0] <= max(row[0] for row in before)][: len(before)] == before
    assert path.with_suffix(".damaged").exists() == (damage != "gone")


def test_a_row_for_a_closed_day_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    feed = fed(tmp_path)
    before = feed.decided

    one(feed, "data/000001", Op.READ, 5 * DAY)

    assert feed.ledgers.figures()[STORE]["late_rows"] == 1
    assert feed.decided == before


def test_rows_of_two_days_in_one_batch_out_of_order_are_judged_row_by_row(tmp_path: Path) -> None:
    rows = random_rows(8, days=40, rows=120)
    order = np.random.default_rng(0).permutation(len(rows.time))
    shuffled = type(rows)(*(getattr(rows, name)[order] for name in ("time", "obj", "size", "op", "count", "bytes")))
    decided = []
    for name, pieces in (("whole", [ALL]), ("single", [slice(at, at + 1) for at in range(len(order))])):
        feed = Feed(tmp_path / name, tariff())
        for at in pieces:
            feed.give(batch_of(shuffled, at))
        feed.end_day(40)
        decided.append((feed.decided, feed.ledgers.figures()))

    assert decided[0] == decided[1]
    assert decided[0][1][STORE]["late_rows"] > 0


def test_a_deletion_that_names_no_store_ends_the_object_where_it_is_known(tmp_path: Path) -> None:
    feed = Feed(tmp_path, tariff())
    one(feed, "film", Op.WRITE, 10)
    one(feed, "film", Op.DELETE, 3 * DAY, store="")
    one(feed, "other", Op.DELETE, 3 * DAY, store="")
    feed.end_day(4)

    assert feed.ledgers.held(STORE, "film") is None
    assert [key for _, key, _, _ in feed.decided] == ["film"]


def test_a_read_that_was_answered_with_an_error_is_no_read(tmp_path: Path) -> None:
    feed = Feed(tmp_path, tariff())
    one(feed, "film", Op.WRITE, 10)
    feed.give(
        access_batch(
            [START + 2 * DAY] * 2, ["ghost"] * 2, [int(Op.READ)] * 2, [1.0] * 2, status=[404, 500], store=[STORE] * 2
        )
    )
    feed.end_day(2)

    assert feed.ledgers.held(STORE, "ghost") is None


def test_a_key_that_begins_with_the_stores_name_belongs_to_it(tmp_path: Path) -> None:
    feed = Feed(tmp_path, tariff())
    one(feed, f"{STORE}/film", Op.READ, 10, store="")
    feed.end_day(0)

    assert feed.ledgers.held(STORE, f"{STORE}/film") == ("standard", False)


def test_a_log_that_was_cut_off_before_the_ledger_read_it_is_said_to_lack_rows(tmp_path: Path) -> None:
    feed = fed(tmp_path)
    rows, end = random_rows(4, days=60, rows=50), feed.log.end
    feed.ledgers.close()
    (tmp_path / "ledger" / "ledger.snapshot").unlink(missing_ok=True)

    class Cut:
        start, end = 10, feed.log.end
        read = feed.log.read

    found = Ledgers(tmp_path / "ledger", {STORE: tariff()}, Cut(), feed.clock)

    assert found.missing_rows == 10
    assert end > 10
    assert len(rows.time) == 50


def test_classes_that_changed_make_a_new_ledger_from_the_whole_log(tmp_path: Path) -> None:
    feed = fed(tmp_path)
    feed.ledgers.snapshot()
    feed.ledgers.close()

    other = tariff_of(PriceBook.load(), "aws", ("standard", "standard_ia"))
    found = Ledgers(tmp_path / "ledger", {STORE: other}, feed.log, feed.clock)
    found.catch_up()

    assert {name for _, _, name, _ in found.decisions(STORE)} <= {"standard", "standard_ia"}
    assert found.offset == feed.log.end


@pytest.mark.parametrize("change", [{"reads": 3}, {"rule": 1}, {"size": 5}, {"held": "standard_ia"}])
def test_a_receipt_that_was_changed_does_not_hold(tmp_path: Path, change: dict[str, object]) -> None:
    feed = fed(tmp_path)
    receipt = feed.ledgers.last_days("data/000001")[STORE]
    assert holds(receipt)

    held = {"held": "standard_ia" if receipt.held != "standard_ia" else "standard"} if "held" in change else change
    assert not holds(msgspec.structs.replace(receipt, **held))


def test_a_receipt_survives_json_bit_for_bit(tmp_path: Path) -> None:
    feed = fed(tmp_path)
    for receipt in feed.ledgers.receipts("data/000001")[STORE]:
        sent = msgspec.json.encode(receipt)
        again = msgspec.json.decode(sent, type=type(receipt))
        assert again == receipt
        assert holds(again)


def test_while_a_long_past_is_read_its_accounts_wait_its_progress_is_told_and_its_end_is_kept_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabric.placement.live.keeper.WORK_MOST", 20)
    feed, rows = Feed(tmp_path, tariff()), random_rows(5, days=150)
    feed.clock.advance(float(rows.time[-1]) + 60.0)
    feed.log.append(batch_of(rows, ALL))
    told = []
    while feed.ledgers.follow():
        assert feed.ledgers.reading == {STORE}
        told.append(feed.ledgers.progress()[0])

    assert len(told) > 5
    assert [one.days_closed for one in told] == sorted(one.days_closed for one in told)
    assert {one.days for one in told[1:]} == {int(rows.time[-1]) // DAY}
    assert feed.ledgers.reading == frozenset()
    feed.crash()  # what the snapshot of its end holds serves at once
    assert feed.ledgers.reading == frozenset()
    assert feed.ledgers.offset == feed.log.end
    assert feed.ledgers.follow() is False


def test_accounts_of_a_past_that_ended_long_ago_speak_once_nothing_more_of_it_comes(tmp_path: Path) -> None:
    feed, rows = Feed(tmp_path, tariff()), random_rows(6, days=40)
    feed.clock.advance(200 * DAY)
    feed.give(batch_of(rows, ALL))
    assert feed.ledgers.reading == {STORE}

    feed.clock.advance(PAST_QUIET_SECONDS)
    feed.ledgers.catch_up()

    assert feed.ledgers.reading == frozenset()


def test_an_object_written_again_is_held_where_it_was_born_while_the_day_is_open(tmp_path: Path) -> None:
    feed, rows = Feed(tmp_path, tariff(), Terms()), random_rows(1, days=150)
    feed.give(batch_of(rows, ALL))
    feed.end_day(int(rows.time[-1]) // DAY + 200)
    held = {key: feed.ledgers.held(STORE, key) for _, key, _, _ in feed.decided}
    cold = next(key for key, said in held.items() if said and said[1])
    assert feed.ledgers.last_days(cold)

    one(feed, cold, Op.WRITE, feed.clock.now() - START)

    assert feed.ledgers.held(STORE, cold) == ("standard", False)
    assert feed.ledgers.last_days(cold) == {}  # nothing of the new version was lived yet
