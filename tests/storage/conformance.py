"""Every sentence of `fabric/storage/store.py`, as tests that each driver, wrapper and server must pass.

A module that runs them derives a class from `Conformance` and gives a fixture ``store`` that yields an empty store.
A case is skipped only where the store's declared capabilities say that it cannot be.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from fabric.core.errors import (
    BadInputError,
    IntegrityError,
    NotFoundError,
    PreconditionError,
    RangeError,
)
from fabric.storage.store import CHUNK_BYTES, Announced, Store

PART_BYTES = 5 << 20
IMPOSSIBLE_KEYS = ["", "/a", "a//b", "a/", "a/../b", "..", "./a", "a/.", "a\0b", "x" * 1025, "\udcff"]
ODD_KEYS = ["a b/c+d", "grüße/日本", "q?x=1&y#z", "100%25", "a\\b", "tilde~'(!)*", "k" * 200]


def read(store: Store, key: str, **options: Any) -> bytes:
    with store.open(key, **options) as reading:
        return b"".join(bytes(piece) for piece in reading)


def keys(store: Store, prefix: str = "", **options: Any) -> list[str]:
    return [info.key for info in store.list(prefix, **options)]


def needs(store: Store, capability: str) -> None:
    if not getattr(store.capabilities, capability):
        pytest.skip(f"{store.name} cannot do {capability}")


class Conformance:
    """Holds the cases; ``store`` comes from the deriving class.

    ``gaps`` names what a server is known to do wrong and no capability covers: case -> why.
    """

    gaps: ClassVar[dict[str, str]] = {}

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    def skip_gap(self, case: str) -> None:
        if case in self.gaps:
            pytest.skip(self.gaps[case])

    # --- keys

    @pytest.mark.parametrize("key", IMPOSSIBLE_KEYS, ids=[ascii(key)[:12] for key in IMPOSSIBLE_KEYS])
    def test_an_impossible_key_is_refused_by_every_method(self, store: Store, key: str) -> None:
        for act in (
            lambda: read(store, key),
            lambda: store.head(key),
            lambda: store.put(key, [b"x"]),
            lambda: store.delete(key),
            lambda: store.begin(key),
        ):
            with pytest.raises(BadInputError):
                act()
        assert keys(store) == []

    @pytest.mark.parametrize("key", ODD_KEYS, ids=[ascii(key)[:12] for key in ODD_KEYS])
    def test_an_odd_key_is_kept_as_it_is(self, store: Store, key: str) -> None:
        self.skip_gap(key)
        store.put(key, [b"odd"])
        assert read(store, key) == b"odd"
        assert store.head(key).key == key
        assert keys(store) == [key]
        store.delete(key)
        assert keys(store) == []

    # --- put, open, head

    @pytest.mark.parametrize("size", [0, 1, 9 << 20])
    @pytest.mark.parametrize("told", [True, False], ids=["with its hash", "without"])
    def test_announced_bytes_are_written_like_others(self, store: Store, size: int, told: bool) -> None:
        data, memory = random.Random(size).randbytes(size), memoryview(bytearray(CHUNK_BYTES))

        def pieces() -> Iterator[memoryview]:
            for start in range(0, size, CHUNK_BYTES):
                piece = data[start : start + CHUNK_BYTES]
                memory[: len(piece)] = piece  # all in the same place
                yield memory[: len(piece)]

        sha256 = hashlib.sha256(data).hexdigest() if told else ""
        info = store.put("k", pieces(), only_if_absent=True, announced=Announced(size, sha256), metadata={"a": "b"})
        assert (info.size_bytes, info.tag) == (size, store.head("k").tag)
        assert read(store, "k") == data
        assert store.head("k").metadata == {"a": "b"}
        with pytest.raises(PreconditionError):
            store.put("k", pieces(), only_if_absent=True, announced=Announced(size, sha256))

    @pytest.mark.parametrize("size", [10, 9 << 20])
    def test_fewer_bytes_than_were_announced_are_refused_and_nothing_is_written(self, store: Store, size: int) -> None:
        with pytest.raises(IntegrityError, match="fewer bytes"):
            store.put("k", [bytes(size)], announced=Announced(size + 1))
        assert keys(store) == []
        assert list(store.uploads()) == []

    def test_more_bytes_than_were_announced_are_refused(self, store: Store) -> None:
        with pytest.raises(IntegrityError, match="more bytes"):
            store.put("k", [bytes(9 << 20), b"!"], announced=Announced(9 << 20))

    def test_an_error_of_the_source_of_announced_bytes_passes_through_and_nothing_is_written(
        self, store: Store
    ) -> None:
        def breaking() -> Iterator[bytes]:
            yield bytes(CHUNK_BYTES)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.put("k", breaking(), announced=Announced(9 << 20))
        assert keys(store) == []
        assert list(store.uploads()) == []

    @pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 9 << 20])
    def test_what_was_put_is_read_back_with_its_size(self, store: Store, size: int) -> None:
        data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
        info = store.put("folder/object", [data[i : i + 700_001] for i in range(0, size, 700_001)])
        assert (info.key, info.size_bytes) == ("folder/object", size)
        head = store.head("folder/object")
        assert (head.size_bytes, head.tag) == (size, info.tag)
        assert read(store, "folder/object") == data

    def test_memoryviews_and_empty_chunks_are_written_like_bytes(self, store: Store) -> None:
        store.put("k", [b"", memoryview(b"ab"), b"", b"c"])
        assert read(store, "k") == b"abc"

    def test_pieces_of_a_read_are_bounded(self, store: Store) -> None:
        store.put("k", [b"z" * CHUNK_BYTES] * 6)
        with store.open("k") as reading:
            sizes = [len(piece) for piece in reading]
        assert sum(sizes) == 6 * CHUNK_BYTES
        assert max(sizes) <= 4 * CHUNK_BYTES

    def test_pieces_may_lie_in_the_readers_memory(self, store: Store) -> None:
        data = os.urandom(CHUNK_BYTES + 3)
        store.put("lent", [data])
        for room in (len(data), CHUNK_BYTES, 100_000):
            memory = memoryview(bytearray(room))
            assert read(store, "lent", into=memory) == data
            assert read(store, "lent", start=7, end=1000, into=memory) == data[7:1000]
            assert read(store, "lent", start=7, end=7, into=memory) == b""

    def test_an_open_read_says_what_is_being_read(self, store: Store) -> None:
        info = store.put("k", [b"12345"])
        with store.open("k", start=2) as reading:
            assert (reading.info.key, reading.info.size_bytes, reading.info.tag) == ("k", 5, info.tag)

    def test_a_read_may_be_left_before_its_end(self, store: Store) -> None:
        store.put("k", [b"x" * CHUNK_BYTES] * 3)
        with store.open("k") as reading:
            next(iter(reading))
        assert len(read(store, "k")) == 3 * CHUNK_BYTES

    def test_modified_is_the_time_of_the_write(self, store: Store) -> None:
        info = store.put("k", [b"1"])
        assert abs(store.head("k").modified - time.time()) < 30
        assert abs(info.modified - time.time()) < 30

    def test_metadata_and_content_type_come_back(self, store: Store) -> None:
        store.put("k", [b"1"], metadata={"colour": "blue", "n-1": "2"}, content_type="text/plain")
        head = store.head("k")
        assert head.metadata == {"colour": "blue", "n-1": "2"}
        assert head.content_type == "text/plain"
        with store.open("k") as reading:
            assert reading.info.metadata == {"colour": "blue", "n-1": "2"}

    def test_an_overwrite_replaces_bytes_metadata_and_tag(self, store: Store) -> None:
        first = store.put("k", [b"old"], metadata={"a": "1"})
        second = store.put("k", [b"new"])
        assert first.tag != second.tag
        assert read(store, "k") == b"new"
        assert store.head("k").metadata == {}

    def test_quick_writes_of_one_length_have_different_tags(self, store: Store) -> None:
        assert len({store.put("k", [f"{n:04d}".encode()]).tag for n in range(30)}) == 30

    def test_what_is_not_there_is_not_found(self, store: Store) -> None:
        for act in (lambda: read(store, "nothing/here"), lambda: store.head("nothing/here")):
            with pytest.raises(NotFoundError) as caught:
                act()
            assert caught.value.context["key"] == "nothing/here"

    def test_an_error_in_the_source_passes_through_and_changes_nothing(self, store: Store) -> None:
        store.put("k", [b"old"])

        def broken() -> Iterator[bytes]:
            yield b"n" * (6 << 20)
            raise RuntimeError("the source broke")

        with pytest.raises(RuntimeError, match="the source broke"):
            store.put("k", broken())
        with pytest.raises(RuntimeError, match="the source broke"):
            store.put("fresh", broken())
        assert read(store, "k") == b"old"
        assert keys(store) == ["k"]
        assert list(store.uploads()) == []

    def test_readers_see_the_old_bytes_or_the_new_and_never_a_mixture(self, store: Store) -> None:
        size, stop, wrong = 300_000, threading.Event(), []
        store.put("k", [b"\0" * size])

        def look() -> None:
            while not stop.is_set():
                data = read(store, "k")
                if len(data) != size or len(set(data)) != 1:
                    wrong.append(data[:10])

        reader = threading.Thread(target=look)
        reader.start()
        for n in range(1, 12):
            store.put("k", [bytes([n]) * size])
        stop.set()
        reader.join()
        assert wrong == []

    # --- ranges

    def test_a_range_gives_those_bytes(self, store: Store) -> None:
        needs(store, "ranges")
        store.put("k", [b"0123456789"])
        assert read(store, "k", start=3, end=6) == b"345"
        assert read(store, "k", start=7) == b"789"
        assert read(store, "k", end=2) == b"01"
        assert read(store, "k", start=8, end=99) == b"89"

    def test_an_empty_range_is_empty(self, store: Store) -> None:
        store.put("k", [b"0123456789"])
        store.put("empty", [])
        assert read(store, "k", start=10) == b""
        assert read(store, "k", start=4, end=4) == b""
        assert read(store, "empty") == b""
        assert read(store, "empty", start=0, end=10) == b""

    def test_a_range_beyond_the_end_is_refused(self, store: Store) -> None:
        store.put("k", [b"0123456789"])
        store.put("empty", [])
        for key, start in (("k", 11), ("empty", 1), ("k", -1)):
            with pytest.raises(RangeError):
                read(store, key, start=start)

    # --- preconditions

    def test_a_read_of_another_tag_is_refused(self, store: Store) -> None:
        tag = store.put("k", [b"one"]).tag
        assert read(store, "k", tag=tag) == b"one"
        store.put("k", [b"two!"])
        with pytest.raises(PreconditionError):
            read(store, "k", tag=tag)
        with pytest.raises(NotFoundError):
            read(store, "none", tag=tag)

    @pytest.mark.parametrize("size", [4, 9 << 20])
    def test_create_only_never_overwrites(self, store: Store, size: int) -> None:
        needs(store, "create_only")
        store.put("k", [b"a" * size], only_if_absent=True)
        with pytest.raises(PreconditionError):
            store.put("k", [b"b" * size], only_if_absent=True)
        assert read(store, "k") == b"a" * size

    def test_of_many_creators_one_wins(self, store: Store) -> None:
        needs(store, "create_only")
        winners = race(8, lambda n: store.put("k", [f"creator {n}".encode()], only_if_absent=True))
        assert len(winners) == 1
        assert read(store, "k") == f"creator {winners[0]}".encode()

    @pytest.mark.parametrize("size", [4, 9 << 20])
    def test_compare_and_set_replaces_only_what_was_seen(self, store: Store, size: int) -> None:
        needs(store, "compare_and_set")
        first = store.put("k", [b"a" * size])
        second = store.put("k", [b"b" * size], only_if_tag=first.tag)
        with pytest.raises(PreconditionError):
            store.put("k", [b"c" * size], only_if_tag=first.tag)
        assert read(store, "k", tag=second.tag) == b"b" * size

    def test_compare_and_set_of_what_is_not_there_is_refused(self, store: Store) -> None:
        needs(store, "compare_and_set")
        tag = store.put("k", [b"1"]).tag
        store.delete("k")
        with pytest.raises(PreconditionError):
            store.put("k", [b"2"], only_if_tag=tag)
        assert keys(store) == []

    def test_of_many_that_compare_and_set_one_wins(self, store: Store) -> None:
        needs(store, "compare_and_set")
        tag = store.put("k", [b"0"]).tag
        winners = race(8, lambda n: store.put("k", [f"writer {n}".encode()], only_if_tag=tag))
        assert len(winners) == 1
        assert read(store, "k") == f"writer {winners[0]}".encode()

    # --- list

    def test_a_listing_is_in_the_order_of_utf8_bytes(self, store: Store) -> None:
        self.skip_gap("order of UTF-8")
        given = [
            "a",
            "a!x",
            "a-b",
            "a.b",
            "b/a",
            "b/a.c",
            "b/a-c",
            "B",
            "b0",
            "ä",
            "z",
            "日",
            "\U0001f600",
            "\uffee",
            "b/z/1",
        ]
        for key in given:
            store.put(key, [b"1"])
        assert keys(store) == sorted(given, key=str.encode)

    def test_a_listing_says_size_tag_and_class(self, store: Store) -> None:
        info = store.put("a/b", [b"12345"])
        (found,) = store.list()
        assert (found.key, found.size_bytes, found.tag) == ("a/b", 5, info.tag)
        assert found.storage_class == store.classes[0]
        assert abs(found.modified - store.head("a/b").modified) < 1.0

    def test_a_listing_keeps_to_prefix_after_and_limit(self, store: Store) -> None:
        for key in ["a/1", "a/2", "a/3/x", "a1", "b/1", "b/2"]:
            store.put(key, [b"1"])
        assert keys(store, "a/") == ["a/1", "a/2", "a/3/x"]
        assert keys(store, "a") == ["a/1", "a/2", "a/3/x", "a1"]
        assert keys(store, "a/3") == ["a/3/x"]
        assert keys(store, after="a/2") == ["a/3/x", "a1", "b/1", "b/2"]
        assert keys(store, after="a/3") == ["a/3/x", "a1", "b/1", "b/2"]
        assert keys(store, "a/", after="a/1", limit=1) == ["a/2"]
        assert keys(store, limit=0) == []
        assert keys(store, "nothing") == []

    def test_more_than_one_page_is_listed_whole(self, store: Store) -> None:
        given = [f"p/{n:05d}" for n in range(1100)] if store.name == "memory" else [f"p/{n:05d}" for n in range(120)]
        for key in given:
            store.put(key, [b""])
        assert keys(store) == given

    # --- delete

    def test_delete_removes_and_may_be_repeated(self, store: Store) -> None:
        store.put("k", [b"1"])
        store.delete("k")
        store.delete("k")
        store.delete("never/was")
        assert keys(store) == []

    def test_delete_of_another_tag_is_refused(self, store: Store) -> None:
        needs(store, "conditional_delete")
        tag = store.put("k", [b"one"]).tag
        store.put("k", [b"two!"])
        with pytest.raises(PreconditionError):
            store.delete("k", tag=tag)
        assert read(store, "k") == b"two!"
        store.delete("k", tag=store.head("k").tag)
        assert keys(store) == []

    # --- classes

    def test_an_object_lies_in_the_class_it_was_put_in(self, store: Store) -> None:
        needs(store, "class_change")
        hot, cold = store.classes[:2]
        assert store.put("h", [b"1"]).storage_class == hot
        assert store.put("c", [b"1"], storage_class=cold).storage_class == cold
        assert store.head("c").storage_class == cold
        assert {info.key: info.storage_class for info in store.list()} == {"c": cold, "h": hot}

    def test_a_class_change_keeps_bytes_metadata_and_type(self, store: Store) -> None:
        needs(store, "class_change")
        hot, cold = store.classes[:2]
        store.put("k", [b"payload"], metadata={"a": "1"}, content_type="text/x-test")
        for target in (cold, hot, hot):
            info = store.set_class("k", target)
            head = store.head("k")
            assert info.storage_class == head.storage_class == target
            assert info.tag == head.tag
            assert (head.metadata, head.content_type, read(store, "k")) == ({"a": "1"}, "text/x-test", b"payload")
            assert keys(store) == ["k"]

    def test_a_class_change_of_another_tag_or_of_nothing_is_refused(self, store: Store) -> None:
        needs(store, "class_change")
        tag = store.put("k", [b"one"]).tag
        store.put("k", [b"two!"])
        with pytest.raises(PreconditionError):
            store.set_class("k", store.classes[1], tag=tag)
        assert store.head("k").storage_class == store.classes[0]
        with pytest.raises(NotFoundError):
            store.set_class("none", store.classes[1])

    def test_an_unknown_class_is_refused(self, store: Store) -> None:
        with pytest.raises(NotFoundError):
            store.put("k", [b"1"], storage_class="no such class")
        assert keys(store) == []

    # --- uploads

    def test_parts_become_one_object(self, store: Store) -> None:
        needs(store, "multipart")
        upload = store.begin("big", metadata={"a": "1"}, content_type="text/plain")
        assert keys(store) == []
        second = store.put_part("big", upload, 2, memoryview(b"tail"))
        first = store.put_part("big", upload, 1, b"h" * PART_BYTES)
        assert (first.number, first.size_bytes, second.size_bytes) == (1, PART_BYTES, 4)
        parts = store.list_parts("big", upload)
        assert parts == (first, second)
        info = store.complete("big", upload, parts)
        assert info.size_bytes == PART_BYTES + 4
        assert (store.head("big").tag, store.head("big").metadata) == (info.tag, {"a": "1"})
        assert store.head("big").content_type == "text/plain"
        assert read(store, "big") == b"h" * PART_BYTES + b"tail"
        with pytest.raises(NotFoundError):
            store.list_parts("big", upload)

    def test_a_repeated_part_replaces_the_first(self, store: Store) -> None:
        needs(store, "multipart")
        upload = store.begin("k")
        store.put_part("k", upload, 1, b"wrong")
        store.put_part("k", upload, 1, b"right!")
        store.complete("k", upload, store.list_parts("k", upload))
        assert read(store, "k") == b"right!"

    def test_uploads_are_named_until_they_end(self, store: Store) -> None:
        needs(store, "multipart")
        one, two = store.begin("a/1"), store.begin("b/2")
        assert sorted(store.uploads()) == sorted([("a/1", one), ("b/2", two)])
        assert list(store.uploads("a/")) == [("a/1", one)]
        store.abort("a/1", one)
        store.abort("a/1", one)
        store.abort("b/2", two)
        assert list(store.uploads()) == []

    def test_a_part_of_a_forgotten_upload_is_refused(self, store: Store) -> None:
        needs(store, "multipart")
        self.skip_gap("forgotten upload")
        upload = store.begin("k")
        store.abort("k", upload)
        with pytest.raises(NotFoundError):
            store.put_part("k", upload, 1, b"late")

    def test_an_unfinished_upload_leaves_the_old_object_alone(self, store: Store) -> None:
        needs(store, "multipart")
        store.put("k", [b"old"])
        upload = store.begin("k")
        store.put_part("k", upload, 1, b"new")
        assert read(store, "k") == b"old"
        store.abort("k", upload)
        assert read(store, "k") == b"old"

    def test_a_create_only_upload_never_overwrites(self, store: Store) -> None:
        needs(store, "multipart")
        needs(store, "create_only")
        upload = store.begin("k")
        part = store.put_part("k", upload, 1, b"late")
        store.put("k", [b"first"])
        with pytest.raises(PreconditionError):
            store.complete("k", upload, (part,), only_if_absent=True)
        assert read(store, "k") == b"first"
        store.abort("k", upload)

    def test_an_upload_may_choose_its_class(self, store: Store) -> None:
        needs(store, "multipart")
        needs(store, "class_change")
        upload = store.begin("k", storage_class=store.classes[1])
        info = store.complete("k", upload, (store.put_part("k", upload, 1, b"cold"),))
        assert info.storage_class == store.head("k").storage_class == store.classes[1]

    # --- the rest

    def test_usage_grows_with_what_is_stored(self, store: Store) -> None:
        used, capacity = store.usage()
        assert used >= 0
        assert capacity is None or capacity >= used

    def test_threads_may_share_a_store(self, store: Store) -> None:
        def work(n: int) -> None:
            for i in range(5):
                data = f"{n}/{i}".encode() * 100
                store.put(f"t/{n}/{i}", [data])
                assert read(store, f"t/{n}/{i}") == data

        assert len(race(6, work)) == 6
        assert len(keys(store, "t/")) == 30


def race(many: int, act: Any) -> list[int]:
    """Run ``act(n)`` for n below ``many`` at the same moment; return those that were not refused."""
    ready = threading.Barrier(many)

    def run(n: int) -> None:
        ready.wait()
        act(n)

    with ThreadPoolExecutor(many) as pool:
        outcomes = [pool.submit(run, n).exception for n in range(many)]
        errors = [outcome() for outcome in outcomes]
    assert [error for error in errors if error is not None and not isinstance(error, PreconditionError)] == []
    return [n for n, error in enumerate(errors) if error is None]
