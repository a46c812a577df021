"""What the wrappers add."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fabric.core.clock import SystemClock
from fabric.core.errors import CapacityError, NotFoundError, UnavailableError, UnknownOutcomeError
from fabric.storage.fault import Failure, Fault, Switch
from fabric.storage.limits import Bucket, Limit, Shape
from fabric.storage.memory import MemoryStore
from fabric.storage.meter import Meter
from fabric.storage.store import ObjectInfo, Store
from fabric.storage.wrappers import Around, Retry


class Flaky(Around):
    """Fails the first ``times`` calls of each method, then works."""

    def __init__(self, inner: Store, times: int = 2) -> None:
        super().__init__(inner)
        self.calls: dict[str, int] = {}
        self._times = times

    def _fail(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        if self.calls[name] <= self._times:
            raise UnavailableError("the network is down", store=self.name)

    def open(self, key: str, **options: Any) -> Any:
        self._fail("open")
        return super().open(key, **options)

    def head(self, key: str) -> ObjectInfo:
        self._fail("head")
        return super().head(key)

    def put(self, key: str, chunks: Any, **options: Any) -> ObjectInfo:
        for _ in chunks if self._times > 90 else ():
            break
        self._fail("put")
        return super().put(key, chunks, **options)

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        for count, info in enumerate(super().list(prefix, after=after, limit=limit)):
            if count == 1:
                self._fail("list")
            yield info


class ClockThatDoesNotWait(SystemClock):
    def __init__(self) -> None:
        self.waited = 0.0

    def monotonic(self) -> float:
        return self.waited

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waited += max(0.0, seconds)
        return False


def read(store: Store, key: str) -> bytes:
    with store.open(key) as reading:
        return b"".join(bytes(piece) for piece in reading)


def test_a_retry_repeats_reads_heads_and_plain_writes() -> None:
    store = Retry(Flaky(MemoryStore("m")))
    store.put("k", [b"1"])
    assert read(store, "k") == b"1"
    assert store.head("k").size_bytes == 1


def test_a_retry_never_repeats_a_write_under_a_condition() -> None:
    flaky = Flaky(MemoryStore("m"))
    for options in ({"only_if_absent": True}, {"only_if_tag": "t"}):
        with pytest.raises(UnavailableError):
            Retry(flaky).put("k", [b"1"], **options)
    assert flaky.calls["put"] == 2


def test_a_retry_never_repeats_a_write_whose_source_was_read_from() -> None:
    flaky = Flaky(MemoryStore("m"), times=99)
    with pytest.raises(UnavailableError):
        Retry(flaky).put("k", iter([b"1", b"2"]))
    assert flaky.calls["put"] == 1


def test_a_retried_listing_goes_on_behind_its_last_key() -> None:
    inner = MemoryStore("m")
    for number in range(5):
        inner.put(f"k{number}", [b""])
    keys = [info.key for info in Retry(Flaky(inner, times=1)).list()]
    assert keys == [f"k{number}" for number in range(5)]


def test_a_retry_does_not_repeat_what_a_repeat_cannot_mend() -> None:
    with pytest.raises(NotFoundError):
        Retry(MemoryStore("m")).head("none")


def test_a_bucket_hands_out_its_rate_and_no_more() -> None:
    clock = ClockThatDoesNotWait()
    bucket = Bucket(100.0, clock, burst_seconds=0.0)
    for _ in range(50):
        bucket.take(10)
    assert clock.waited == pytest.approx(5.0)


def test_a_limit_slows_reads_and_writes_to_its_bandwidth() -> None:
    clock = ClockThatDoesNotWait()
    store = Limit(MemoryStore("m"), clock, bytes_per_second=1000.0)
    store.put("k", [b"x" * 1000] * 3)
    assert len(read(store, "k")) == 3000
    assert clock.waited == pytest.approx(5.0)  # 6,000 bytes at 1,000 a second, one second of allowance kept


def test_a_shaped_store_waits_its_class_before_the_first_byte() -> None:
    clock = ClockThatDoesNotWait()
    inner = MemoryStore("m", classes=("hot", "cold"))
    inner.put("k", [b"1"], storage_class="cold")
    assert read(Shape(inner, clock, first_byte_ms={"hot": 5.0, "cold": 80.0}), "k") == b"1"
    assert clock.waited == pytest.approx(0.080)


@pytest.mark.item(83)
def test_the_meter_measures_the_injected_latency_of_each_class() -> None:
    inner = MemoryStore("m", classes=("hot", "cold"))
    inner.put("h", [b"1"])
    inner.put("c", [b"1"], storage_class="cold")
    seen: list[tuple[Any, ...]] = []
    clock = ClockThatDoesNotWait()
    store = Meter(Shape(inner, clock, first_byte_ms={"cold": 50.0}), clock, observe=lambda *facts: seen.append(facts))
    for _ in range(19):
        read(store, "c")
    assert store.latency_ms("cold") is None
    read(store, "c")
    read(store, "h")
    view = store.latency_ms("cold")
    assert view is not None
    assert (view.p50, view.p99, view.samples) == (pytest.approx(50.0), pytest.approx(50.0), 20)
    assert store.latency_ms("hot") is None
    assert seen[0] == ("m", "open", "cold", pytest.approx(0.05), 1, True)
    figures = store.figures()
    assert (figures.requests, figures.bytes_read, figures.failures) == ({"open": 21}, 21, 0)


def test_the_meter_tells_silence_from_an_answer() -> None:
    switch, seen = Switch(), []
    store = Meter(Fault(MemoryStore("m"), switch), SystemClock(), observe=lambda *facts: seen.append(facts[-1]))
    with pytest.raises(NotFoundError):
        store.head("none")
    switch.set(Failure.DOWN)
    with pytest.raises(UnavailableError):
        store.head("none")
    assert seen == [True, False]
    assert store.figures().failures == 1


def test_the_meter_charges_a_store_neither_for_bytes_that_come_slowly_nor_for_those_that_do_not_come() -> None:
    clock, seen = ClockThatDoesNotWait(), []
    store = Meter(MemoryStore("m"), clock, observe=lambda *facts: seen.append(facts))

    def slowly(*, until: int) -> Iterator[bytes]:
        for number in range(4):
            clock.waited += 10.0
            if number == until:
                raise UnavailableError("the source does not answer", store="another")
            yield b"part"

    store.put("k", slowly(until=9))
    with pytest.raises(UnavailableError):
        store.put("broken", slowly(until=2))
    assert clock.waited == 70.0
    assert seen == [("m", "put", "memory", 0.0, 16, True)]
    assert (store.figures().requests, store.figures().failures) == ({"put": 1}, 0)


def test_a_store_that_goes_down_breaks_off_open_reads() -> None:
    switch = Switch()
    store = Fault(MemoryStore("m"), switch)
    store.put("k", [b"x" * (3 << 20)])
    with store.open("k") as reading:
        pieces = iter(reading)
        next(pieces)
        switch.set(Failure.DOWN)
        with pytest.raises(UnavailableError):
            next(pieces)
    switch.clear()
    assert len(read(store, "k")) == 3 << 20


def test_a_corrupt_store_changes_one_bit() -> None:
    switch, inner = Switch(), MemoryStore("m")
    store = Fault(inner, switch)
    store.put("k", [b"abc"])
    switch.set(Failure.CORRUPT_READS)
    assert read(store, "k") == b"`bc"
    switch.set(Failure.CORRUPT_WRITES)
    store.put("w", [b"abc"])
    assert read(inner, "w") == b"`bc"


def test_a_full_store_refuses_writes_and_serves_reads() -> None:
    switch = Switch()
    store = Fault(MemoryStore("m"), switch)
    store.put("k", [b"1"])
    switch.set(Failure.FULL)
    with pytest.raises(CapacityError):
        store.put("l", [b"1"])
    assert read(store, "k") == b"1"


def test_a_lost_answer_is_unknown_though_the_write_happened() -> None:
    switch, inner = Switch(), MemoryStore("m")
    switch.set(Failure.LOST_ANSWERS)
    with pytest.raises(UnknownOutcomeError):
        Fault(inner, switch).put("k", [b"1"], only_if_absent=True)
    assert read(inner, "k") == b"1"


def test_a_slow_store_waits_before_every_request() -> None:
    switch, clock = Switch(), ClockThatDoesNotWait()
    store = Fault(MemoryStore("m"), switch, clock=clock)
    switch.set(Failure.SLOW, slow_seconds=2.0)
    began = time.monotonic()
    store.put("k", [b"1"])
    assert clock.waited == 2.0
    assert time.monotonic() - began < 2.0
