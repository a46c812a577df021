"""The supervisor, the freeze, the data folder's world and lease, and the measures."""

from __future__ import annotations

import threading
import time

import pytest

from fabric.core.clock import ManualClock, SystemClock
from fabric.core.errors import (
    ConflictError,
    CorruptError,
    ForbiddenError,
    FrozenError,
    InUseError,
    UnavailableError,
    WorldError,
)
from fabric.runtime.component import Explanation, Page
from fabric.runtime.folder import DataFolder, folder_world, read_engine
from fabric.runtime.freeze import Freeze
from fabric.runtime.measures import Measures
from fabric.runtime.supervisor import Supervisor


class Counter:
    """A component that counts its ticks, and fails when it is told to."""

    def __init__(self, name: str, fails: list[Exception] | None = None, wait: float = 0.005) -> None:
        self.name, self.fails, self.wait = name, fails or [], wait
        self.ticks, self.stopped, self.order = 0, threading.Event(), []

    def start(self) -> None: ...

    def tick(self) -> float:
        if self.fails:
            raise self.fails.pop(0)
        self.ticks += 1
        return self.wait

    def stop(self) -> None:
        self.stopped.set()

    def reports(self):
        return {}

    def page(self, kind, *, search="", cursor=None, limit=100) -> Page:
        return Page([], [], 0, None)

    def explain(self, key) -> Explanation:
        return Explanation([], {})


def wait_for(condition) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        threading.Event().wait(0.005)


def test_each_component_ticks_on_its_own_thread_and_is_stopped() -> None:
    parts = [Counter("a"), Counter("b")]
    published = []
    supervisor = Supervisor(parts, SystemClock(), after_tick=lambda c: published.append(c.name))
    supervisor.start()
    wait_for(lambda: all(part.ticks > 3 for part in parts))
    supervisor.stop()
    assert all(part.stopped.is_set() for part in parts)
    assert {"a", "b"} <= set(published)
    assert {state["state"] for state in supervisor.states().values()} == {"stopped"}


def test_a_retryable_fault_is_tried_again_and_another_fault_stops_that_component_alone() -> None:
    flaky = Counter("flaky", [UnavailableError("away")])
    hopeless = Counter("hopeless", [ForbiddenError("no")])
    supervisor = Supervisor([flaky, hopeless], SystemClock())
    supervisor.start()
    wait_for(lambda: flaky.ticks > 2 and supervisor.states()["hopeless"]["state"] == "failed")
    assert "no" in str(supervisor.states()["hopeless"]["error"])
    assert supervisor.states()["flaky"]["failures"] == 0
    supervisor.stop()


def test_a_doorbell_wakes_a_component_that_waits() -> None:
    sleeper = Counter("sleeper", wait=3600)
    supervisor = Supervisor([sleeper], SystemClock())
    supervisor.start()
    wait_for(lambda: sleeper.ticks == 1)
    supervisor.wake("sleeper")
    wait_for(lambda: sleeper.ticks == 2)
    supervisor.stop()
    assert sleeper.ticks == 2  # the next one was an hour away


def test_a_doorbell_does_not_cut_a_back_off_short() -> None:
    clock = ManualClock()
    failing = Counter("failing", [UnavailableError("not yet")] * 50, wait=3600)
    supervisor = Supervisor([failing], clock)
    supervisor.start()
    wait_for(lambda: supervisor.states()["failing"]["state"] == "backing_off")
    for _ in range(20):
        supervisor.wake("failing")
        threading.Event().wait(0.005)
    assert len(failing.fails) == 49
    clock.advance(0.6)
    wait_for(lambda: len(failing.fails) == 48)
    supervisor.stop()
    assert failing.stopped.is_set()


def test_a_freeze_holds_over_a_restart_and_is_lifted_by_name(tmp_path) -> None:
    path, clock = tmp_path / "freeze.json", ManualClock()
    Freeze(path, clock).freeze("audit-week", "somebody", "quarter end")
    again = Freeze(path, clock)
    with pytest.raises(FrozenError, match="--lift audit-week"):
        again.check()
    with pytest.raises(ConflictError):
        again.lift("other")
    again.lift("audit-week")
    again.check()


def test_a_damaged_freeze_file_is_not_taken_for_no_freeze(tmp_path) -> None:
    path = tmp_path / "freeze.json"
    path.write_text("rubbish")
    with pytest.raises(CorruptError):
        Freeze(path, ManualClock())


def test_a_second_engine_on_the_same_data_is_refused_and_told_which_one_runs(tmp_path) -> None:
    first = DataFolder(tmp_path / "data", "sample", ManualClock())
    first.take_lease()
    published = first.publish_engine("http://127.0.0.1:5001", "secret")
    assert (tmp_path / "data" / "engine.json").stat().st_mode & 0o777 == 0o600
    assert read_engine(tmp_path / "data") == published
    with pytest.raises(InUseError, match=r"127\.0\.0\.1:5001"):
        DataFolder(tmp_path / "data", "sample", ManualClock()).take_lease()
    first.release()
    assert read_engine(tmp_path / "data") is None
    DataFolder(tmp_path / "data", "sample", ManualClock()).take_lease()


def test_the_other_worlds_data_folder_is_refused_with_the_command_to_run(tmp_path) -> None:
    DataFolder(tmp_path / "data", "sample", ManualClock())
    with pytest.raises(WorldError, match="--data-dir"):
        DataFolder(tmp_path / "data", "own", ManualClock())
    assert folder_world(tmp_path / "data") == "sample"
    assert folder_world(tmp_path / "none") is None


def test_a_damaged_mark_of_the_data_folder_is_named(tmp_path) -> None:
    DataFolder(tmp_path / "data", "own", ManualClock())
    (tmp_path / "data" / "fabric.json").write_text("{")
    with pytest.raises(CorruptError, match=r"fabric\.json"):
        DataFolder(tmp_path / "data", "own", ManualClock())


def test_measures_keep_the_latest_level_and_add_up_counters() -> None:
    measures = Measures(ManualClock(5.0))
    measures.gauge("used_percent", 10.0, store="nas")
    measures.gauge("used_percent", 20.0, store="nas")
    measures.count("moved_bytes", 3)
    measures.count("moved_bytes", 4)
    assert [(m.name, m.labels, m.value, m.kind) for m in measures.snapshot()] == [
        ("moved_bytes", (), 7, "counter"),
        ("used_percent", (("store", "nas"),), 20.0, "gauge"),
    ]
    measures.forget("used_percent", store="nas")
    assert len(measures.snapshot()) == 1
