from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from security_fakes import random_bytes
from test_security_vault import tink_streaming
from tink import streaming_aead

from fabric.core.errors import IntegrityError
from fabric.security.stream import SEGMENT_BYTES, TAG_BYTES, Layout, decrypted, encrypted

STEP = SEGMENT_BYTES - TAG_BYTES


class Kept(io.BytesIO):
    """Tink closes what it writes to; this keeps the bytes."""

    def close(self) -> None:
        self.kept = self.getvalue()


def opened(key: bytes, cipher: bytes, associated: bytes = b"about") -> bytes:
    layout = Layout(len(key))
    segments = layout.segments(layout.plain_bytes(len(cipher)))
    head, body = cipher[: layout.header_bytes], cipher[layout.header_bytes :]
    return b"".join(decrypted(key, associated, head, [body], segments=segments))


@pytest.mark.parametrize("key_bytes", [16, 32])
@pytest.mark.parametrize("size", [0, 1, STEP - 40, STEP - 24, STEP - 23, 5 * STEP, 16 * STEP - 40, 2_000_000])
def test_tink_reads_what_we_write_and_we_read_what_tink_writes(key_bytes: int, size: int) -> None:
    streaming_aead.register()
    key, data = random_bytes(key_bytes, 7), random_bytes(size)
    ours = b"".join(encrypted(key, b"about", [data]))
    with tink_streaming(key).new_decrypting_stream(io.BytesIO(ours), b"about") as stream:
        assert stream.read() == data
    sink = Kept()
    with tink_streaming(key).new_encrypting_stream(sink, b"about") as stream:
        stream.write(data)
    assert len(sink.kept) == Layout(key_bytes).cipher_bytes(size)
    assert opened(key, sink.kept) == data


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 20 * STEP), key_bytes=st.sampled_from([16, 32]))
def test_lengths_and_places_agree_with_each_other(size: int, key_bytes: int) -> None:
    layout = Layout(key_bytes)
    assert layout.plain_bytes(layout.cipher_bytes(size)) == size
    if size:
        segment = layout.segment_of(size - 1)
        assert layout.plain_start(segment) <= size - 1 < layout.plain_start(segment + 1)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 300_000), max_size=8))
def test_the_cut_of_the_input_changes_nothing(cuts: list[int]) -> None:
    data, key = random_bytes(300_000), bytes(32)
    edges = [0, *sorted(cuts), len(data)]
    pieces = [memoryview(data)[low:high] for low, high in itertools.pairwise(edges)]
    assert opened(key, b"".join(encrypted(key, b"about", pieces))) == data


@pytest.mark.parametrize("wrong", ["swapped", "dropped", "cut", "key", "about"])
def test_segments_cannot_be_reordered_dropped_or_cut_and_need_key_and_context(wrong: str) -> None:
    key = bytes(32)
    cipher = b"".join(encrypted(key, b"about", [random_bytes(4 * STEP - 40)]))
    one, two, three, four = (cipher[n * SEGMENT_BYTES : (n + 1) * SEGMENT_BYTES] for n in range(4))
    broken = {
        "swapped": one + three + two + four,
        "dropped": one + two + four,
        "cut": one + two + three,
        "key": cipher,
        "about": cipher,
    }[wrong]
    with pytest.raises(IntegrityError):
        opened(bytes(31) + b"\1" if wrong == "key" else key, broken, b"other" if wrong == "about" else b"about")


def test_pieces_are_not_overwritten_by_later_ones() -> None:
    data = random_bytes(5_000_000)
    pieces = list(encrypted(bytes(16), b"about", [data]))
    assert opened(bytes(16), b"".join(pieces)) == data
