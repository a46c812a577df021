"""What a move asks of its stores, request by request, and what that costs. Pure.

`asks_of` follows the steps of `fabric.migration` (validate, copy, prove, test the access, switch, and at the end of the
grace remove); the meter around each store counts the same requests, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from fabric.core.words import Place
from fabric.pricing.cost import Line, egress_line, requests_line, retrieval_line
from fabric.pricing.sheet import ClassPrice, EgressPrice

SHADOW_BYTES = 4096  # what migration writes and reads at the target before it trusts it
TIMED_BYTES = 64 << 10  # of a read that is only timed
SERVER_SHA256 = "server_sha256"  # the proof that reads nothing back
_GET, _PUT, _ENTER = "get_per_1k", "put_per_1k", "transition_in_per_1k"
FIELDS = {
    "head": _GET, "open": _GET, "checksum": _GET, "list": _PUT, "uploads": _PUT, "list_parts": _PUT,
    "begin": _PUT, "put_part": _PUT, "complete": _PUT, "put": _ENTER, "set_class": _ENTER,
}  # fmt: skip
"""Operation of a store -> the price of it in a sheet; what is missing (delete, abort) is free."""


class Manner(msgspec.Struct, frozen=True):
    """How one move will be carried out; places as ``store/class``, bytes as they are stored."""

    source: str
    target: str
    door: str  # the target store's first class: what its requests about no object, or not yet one, are billed as
    source_bytes: float
    target_bytes: float
    proof: str = "read_back"
    parts: int = 0  # 0: in one
    inside: bool = False  # the server itself copies, in `parts` or in one; else the bytes go through here
    verbatim: bool = True  # else sealed anew
    kept: bool = False  # it still lies at the target, in grace: nothing is copied
    checked: bool = True  # the source is asked for size and tag before it is read
    access_tests: int = 1  # of the target store, that this move makes
    canary_reads: int = 0
    reaped: bool = True  # the source copy is removed after the grace
    source_door: str = ""  # the same of the source store; "": its place
    scale: float = 1.0  # bytes that are billed for each stored byte; not 1 in the sample world

    @property
    def in_place(self) -> bool:
        return Place.parse(self.source).store == Place.parse(self.target).store


class Ask(msgspec.Struct, frozen=True):
    """Requests of one kind at one place, and the bytes that they get out of it."""

    part: str  # copy | proof | canary | grace: what they are for
    place: str
    operation: str  # of the Store protocol
    count: float = 1.0
    bytes: float = 0.0
    way: str = "reader"  # where the bytes go: reader | target | inside


Priced = Callable[[str], tuple[ClassPrice, EgressPrice]]  # place -> its class, and the way from there to the reader


def asks_of(manner: Manner) -> tuple[Ask, ...]:
    """Return every request of a move, from its validation to the end of its grace."""
    found = [Ask("copy", manner.source, "head")] if manner.checked else []
    return (*found, *_copy(manner), *_proof(manner), *_tests(manner), *_removal(manner))


def _copy(manner: Manner) -> tuple[Ask, ...]:
    here, there, size = manner.source, manner.target, manner.source_bytes
    if manner.in_place:
        change = Ask("copy", there, "set_class")
        read = Ask("copy", here, "open", bytes=size)
        return read, Ask("copy", here, "head"), change, Ask("copy", here, "retrieved", 0.0, size, "inside")
    if manner.kept:
        return (_timed(here, size),)
    if manner.inside:
        return _copied_by_server(manner)
    if manner.parts:
        begun = [Ask("copy", here, "head"), Ask("copy", manner.door, "uploads"), Ask("copy", manner.door, "begin")]
        sent = [Ask("copy", manner.door, "put_part", float(manner.parts)), Ask("copy", there, "complete")]
        return (*begun, Ask("copy", here, "open", float(manner.parts), size, "target"), *sent)
    whole = (Ask("copy", here, "open", 1.0, size, "target"), Ask("copy", there, "put"))
    return whole if manner.verbatim or not size else (*whole, _timed(here, size))


def _copied_by_server(manner: Manner) -> tuple[Ask, ...]:
    """Return what a copy inside one server asks; it reads the source there, and what is read here is only timed."""
    here, there, size = manner.source, manner.target, manner.source_bytes
    sent = [Ask("copy", there, "put")]
    if manner.parts:
        parts = Ask("copy", manner.door, "put_part", float(manner.parts))
        sent = [Ask("copy", manner.door, "begin"), parts, Ask("copy", there, "complete")]
    retrieved = Ask("copy", here, "retrieved", 0.0, size, "target")
    return Ask("copy", here, "head"), *sent, retrieved, _timed(here, size)


def _timed(place: str, size: float) -> Ask:
    return Ask("canary", place, "open", 1.0 if size else 0.0, min(TIMED_BYTES, size))


def _proof(manner: Manner) -> tuple[Ask, ...]:
    there, size = manner.target, manner.target_bytes
    if manner.proof == SERVER_SHA256:
        return Ask("proof", there, "checksum"), _timed(there, size)
    return (Ask("proof", there, "open", 1.0, size),)


def _tests(manner: Manner) -> tuple[Ask, ...]:
    """Return the shadow object that is written, read and removed, and the reads of a phase's canary."""
    tests, reads = float(manner.access_tests), float(manner.canary_reads) * bool(manner.target_bytes)
    found = []
    if tests:
        found += [
            Ask("canary", manner.door, "put", tests),
            Ask("canary", manner.door, "open", tests, tests * SHADOW_BYTES),
        ]
    if reads:
        each = min(TIMED_BYTES, manner.target_bytes)
        found.append(Ask("canary", manner.target, "open", reads, reads * each))
    return tuple(found)


def _removal(manner: Manner) -> tuple[Ask, ...]:
    if manner.in_place or not manner.reaped:
        return ()
    return _reaping(manner.source, manner.source_door or manner.source, manner.target)


def _reaping(place: str, door: str, other: str) -> tuple[Ask, ...]:
    """Return what removing a copy in grace asks: both are looked at, then what lies here is looked for and deleted."""
    return Ask("grace", other, "head"), Ask("grace", door, "uploads"), Ask("grace", place, "head", 2.0)


def undo_asks(manner: Manner) -> tuple[Ask, ...]:
    """Return every request of taking the move back inside its grace period, up to the copy that it removes."""
    if manner.in_place:
        moved = Ask("copy", manner.target, "retrieved", 0.0, manner.target_bytes, "inside")
        return Ask("copy", manner.target, "head"), Ask("copy", manner.source, "set_class"), moved
    heads = Ask("copy", manner.source, "head", 2.0)
    return heads, *_reaping(manner.target, manner.door, manner.source)


def backwards(manner: Manner) -> Manner:
    """Return how the same bytes would be moved back, as a move of its own."""
    return msgspec.structs.replace(
        manner,
        source=manner.target,
        target=manner.source,
        door=manner.source_door or manner.source,
        source_door=manner.door,
        source_bytes=manner.target_bytes,
        target_bytes=manner.source_bytes,
        proof="read_back",
        kept=False,
        access_tests=1,
    )


def ask_lines(asks: Iterable[Ask], priced: Priced, between: EgressPrice, *, scale: float = 1.0) -> tuple[Line, ...]:
    """Price requests and the bytes they get.

    Args:
        between: the way from source to target.
        scale: bytes that are billed for each stored byte; not 1 in the sample world.
    """
    return tuple(line for ask in asks for line in _lines(ask, priced, between, scale) if line.usd or line.high)


def _lines(ask: Ask, priced: Priced, between: EgressPrice, scale: float) -> tuple[Line, ...]:
    price, to_reader = priced(ask.place)
    moved, field, found = ask.bytes * scale, FIELDS.get(ask.operation), list[Line]()
    if field is not None:
        found.append(requests_line(price, ask.count, field=field, name=_name(ask)))
    if ask.operation == "open" or moved:
        found.append(retrieval_line(price, moved, ask.count))
    if moved and ask.way != "inside":
        found.append(egress_line(between if ask.way == "target" else to_reader, moved))
    if ask.part == "copy":
        return tuple(found)
    return tuple(msgspec.structs.replace(line, name=ask.part) for line in found)


def _name(ask: Ask) -> str:
    writes = FIELDS[ask.operation] != _GET
    return "transition" if writes else "requests"
