"""Jobs and their journal in the catalog: leases, counts, paging at 100,000 rows, and the chain."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from fabric.catalog import jobrecords as module
from fabric.catalog.database import Database
from fabric.catalog.jobs import Checkpoint, Job, Jobs, JobStep, LostLeaseError, SpendCapError
from fabric.core.errors import ConflictError, CorruptError, NotFoundError

replace = msgspec.structs.replace


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "catalog.db")
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


def job(number: int = 1, **fields: object) -> Job:
    made = Job(f"job{number:06}", f"key/{number:06}", "v", "a/hot", "b/cold", 100, 1000.0, run_id="run")
    return replace(made, **fields)


def test_a_job_is_found_by_its_id_and_by_its_key(jobs: Jobs) -> None:
    added = jobs.add(job())

    assert jobs.get(added.id) == added
    assert jobs.of_key(added.key) == [added]
    with pytest.raises(NotFoundError):
        jobs.get("nobody")


def test_a_second_job_for_an_object_that_is_being_moved_is_refused(jobs: Jobs) -> None:
    first = jobs.add(job())

    with pytest.raises(ConflictError) as caught:
        jobs.add(job(2, key=first.key))

    assert caught.value.context["job"] == first.id
    assert len(jobs.journal_page()[0]) == 1


def test_a_change_under_an_older_lease_changes_and_journals_nothing(jobs: Jobs) -> None:
    first = jobs.add(job())
    claimed = jobs.change(first, replace(first, state="VALIDATING", epoch=1), "transition")

    with pytest.raises(LostLeaseError):
        jobs.change(first, replace(first, state="FAILED"), "transition")
    with pytest.raises(LostLeaseError):
        jobs.save(first, Checkpoint(blob="x"))

    assert jobs.get(first.id) == claimed
    assert len(jobs.journal_of(first.id)) == 2
    assert jobs.checkpoint(first.id) == Checkpoint()


def test_a_checkpoint_comes_back_as_it_was_saved(jobs: Jobs) -> None:
    added = jobs.add(job())
    saved = Checkpoint("objects/x", "upload", ((1, 5, "tag", "ff"),), done_bytes=5)

    jobs.save(added, saved)

    assert jobs.checkpoint(added.id) == saved


def test_counts_follow_every_change(jobs: Jobs) -> None:
    first = jobs.add(job())
    jobs.add(job(2))
    jobs.change(first, replace(first, state="FAILED"), "transition")

    assert jobs.counts() == {"PENDING": (1, 100), "FAILED": (1, 100)}


def test_a_run_is_never_booked_above_its_cap(jobs: Jobs) -> None:
    begun = 0
    for number in range(10):
        added = jobs.add(job(number, cost_usd=0.3))
        try:
            jobs.begin(added, replace(added, state="IN_PROGRESS"), Checkpoint(), cap_usd=1.0)
            begun += 1
        except SpendCapError:
            assert jobs.get(added.id).state == "PENDING"

    assert begun == 3
    assert jobs.spent("run") == pytest.approx(0.9)


def test_only_what_has_something_left_to_do_is_due(jobs: Jobs) -> None:
    kept = jobs.add(job(1))
    jobs.change(kept, replace(kept, state="COMPLETED", grace_until=2000.0), "transition")
    failed = jobs.add(job(2))
    jobs.change(failed, replace(failed, state="FAILED", started=1.0, updated=1500.0), "transition")
    final = jobs.add(job(3))
    jobs.change(final, replace(final, state="FAILED", updated=1500.0), "transition")

    assert [found.id for found in jobs.due(1600.0)] == [failed.id]
    assert [found.id for found in jobs.due(2000.0)] == [failed.id, kept.id]


def test_of_many_jobs_begun_together_those_that_were_claimed_or_pass_the_cap_are_left(jobs: Jobs) -> None:
    waiting = [jobs.add(replace(job(number), cost_usd=1.0)) for number in range(5)]
    jobs.change(waiting[0], replace(waiting[0], epoch=1), "claimed")
    steps = [
        JobStep(before, replace(before, state="IN_PROGRESS", epoch=1), _lines(before), Checkpoint("blob"))
        for before in waiting
    ]

    begun = jobs.begin_all(steps, {waiting[0].run_id: 2.5})

    assert begun == {found.id for found in jobs.in_states(["IN_PROGRESS"])} == {waiting[1].id, waiting[2].id}
    assert jobs.spent(waiting[0].run_id) == 2.0
    assert {state: count for state, (count, _) in jobs.counts().items()} == {"PENDING": 3, "IN_PROGRESS": 2}
    assert jobs.checkpoint(waiting[1].id) == Checkpoint("blob")
    assert jobs.verify_journal() == 5 + 1 + 2 * 2


def _lines(before: Job) -> tuple[tuple[str, float, str, str, str, dict[str, object]], ...]:
    steps = (("PENDING", "VALIDATING"), ("VALIDATING", "IN_PROGRESS"))
    return tuple((before.id, 1.0, was, became, "transition", {}) for was, became in steps)


@pytest.mark.item(105)
def test_a_hundred_thousand_jobs_are_paged_by_keyset_each_once(jobs: Jobs, database: Database) -> None:
    total = 100_000
    rows = [module.job_row(job(number, key=f"k{number % 1000:03}/{number}")) for number in range(total)]
    journal = [(f"job{number:06}", 1.0, "", "PENDING", "created", "{}", "") for number in range(total)]
    with sqlite3.connect(database.path) as connection:
        names = ("id", "key", "state", "risk", "bytes", "epoch", "due", "record")
        connection.executemany(f"INSERT INTO jobs ({', '.join(names)}) VALUES (:{', :'.join(names)})", rows)
        connection.executemany(
            "INSERT INTO job_journal (job_id, at, was, became, act, details, chain) VALUES (?, ?, ?, ?, ?, ?, ?)",
            journal,
        )
        connection.execute("INSERT INTO job_counts VALUES ('PENDING', ?, ?)", (total, total * 100))

    seen: list[str] = []
    before = ""
    while True:
        page, count = jobs.page(before=before, limit=1000)
        if not page:
            break
        assert count == total
        seen += [found.id for found in page]
        before = page[-1].id

    assert len(seen) == len(set(seen)) == total
    assert seen == sorted(seen, reverse=True)
    assert jobs.page(search="k007/", limit=10)[1] == 100
    assert jobs.journal_page(limit=5)[1] == total
    with database.read() as connection:
        plan = connection.execute(
            text("EXPLAIN QUERY PLAN SELECT record FROM jobs WHERE id < 'x' ORDER BY id DESC LIMIT 10")
        ).all()
    assert "SEARCH" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


def test_a_search_for_a_wildcard_means_that_character(jobs: Jobs) -> None:
    jobs.add(job(1, key="50%/a"))
    jobs.add(job(2, key="501/a"))

    found, total = jobs.page(search="50%")

    assert [hit.key for hit in found] == ["50%/a"]
    assert total == 1


@pytest.mark.item(95)
@pytest.mark.parametrize(
    "edit",
    [
        'UPDATE job_journal SET details = \'{"who":"someone else"}\' WHERE seq = 2',
        "UPDATE job_journal SET at = at + 1 WHERE seq = 2",
        "UPDATE job_journal SET became = 'COMPLETED' WHERE seq = 2",
        "DELETE FROM job_journal WHERE seq = 2",
    ],
)
def test_a_journal_row_that_was_edited_or_removed_is_found(jobs: Jobs, database: Database, edit: str) -> None:
    added = jobs.add(job())
    for _ in range(3):
        jobs.note(added, 1001.0, "wish", wish="pause", who="ada")
    assert jobs.verify_journal() == 4

    database.write(lambda connection: connection.execute(text(edit)))

    with pytest.raises(CorruptError) as caught:
        jobs.verify_journal()
    assert caught.value.context["row"] in (2, 3)
