"""Lent memory: used again while any is lent, let go when none is, and never copied onto itself."""

from __future__ import annotations

import ctypes

from fabric.migration.buffers import Buffers, put_into


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def test_memory_that_came_back_is_lent_again_from_the_start_of_a_page() -> None:
    buffers = Buffers()
    with buffers.lent(8192):
        with buffers.lent(4096) as (one,):
            at = address(one)
        with buffers.lent(100) as (other,):
            assert (address(other), len(other)) == (at, 100)
    assert at % 4096 == 0


def test_two_who_have_memory_never_have_the_same() -> None:
    buffers = Buffers()
    with buffers.lent(4096, 3) as some, buffers.lent(4096, 3) as others:
        assert len({address(view) for view in (*some, *others)}) == 6


def test_nothing_is_kept_when_nothing_is_lent_or_when_it_is_too_small() -> None:
    buffers = Buffers()
    with buffers.lent(4096):
        with buffers.lent(4096, 4):
            pass
        assert len(buffers._kept) == 4
        with buffers.lent(8192):
            assert buffers._kept == []
    assert buffers._kept == []


def test_a_piece_is_copied_unless_it_lies_there() -> None:
    memory = memoryview(bytearray(b"abcdef"))
    put_into(memory[:3], memory[:3])
    assert bytes(memory) == b"abcdef"
    put_into(memory[:3], memory[3:])
    put_into(memory[3:], b"xyz")
    put_into(memory[5:], memoryview(b"!"))
    assert bytes(memory) == b"defxy!"
