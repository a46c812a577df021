"""The process in which the time machine replays, so that no request waits and no memory of the engine is at stake.

``python -m fabric.app.replaychild FOLDER`` reads ``question.json``, says in ``progress.json`` how far it is, and leaves
``answer.json`` and the objects (`placement.replay.kept`), or ``problem.json``. It opens the files named in the question
and nothing else: no catalog, no store, no socket. It ends when its standard input does: with the engine.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from fabric.app.replaytold import PROGRESS_FILE, Progress, Question
from fabric.core.child import NICENESS, bound_memory, end_with_parent
from fabric.core.errors import BadInputError, CapacityError, FabricError
from fabric.core.files import write_whole
from fabric.formats.access import Accesses
from fabric.formats.listing import read_listing
from fabric.formats.past import to_trace
from fabric.formats.requesters import Readers, readers_of
from fabric.formats.source import AccessSource
from fabric.placement.replay.kept import keep
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.policies import FABRIC, FABRIC_GATED, OPTIMUM, Policy, chosen, policies
from fabric.placement.replay.reading import is_trace, read_traces
from fabric.placement.replay.receipts import NOTHING, Course, Watching, gated_course, prices
from fabric.placement.replay.run import Comparison, compare
from fabric.placement.replay.sources import Source, source_of
from fabric.placement.replay.tariff import default_classes, tariff_of
from fabric.placement.replay.today import beside_invoice, do_nothing, inventory_document, month_beside_invoice
from fabric.pricing.sheet import PriceBook

MEMORY_BYTES_MOST = 3 << 30  # of private memory; beyond it the replay ends with a sentence
SAY_SECONDS = 0.2  # between two words of progress
BLOCKS_READ = "reading"


class Voice:
    """Writes how far the replay is; safe from any thread."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS_FILE
        self._lock = threading.Lock()
        self._said = -1.0
        self._begun = self._phase_begun = time.monotonic()
        self._first: tuple[int, float] | None = None
        self.now = Progress()

    def say(self, *, at_once: bool = False, **changes: Any) -> None:
        """Note changes; write them unless something was written just now."""
        with self._lock:
            self._note(changes)
            if at_once or self.now.seconds - self._said >= SAY_SECONDS:
                self._said = self.now.seconds
                write_whole(self._path, msgspec.json.encode(self.now), durable=False)

    def _note(self, changes: dict[str, Any]) -> None:
        now = time.monotonic()
        if rows := changes.get("rows", 0):
            first_rows, at = self._first = self._first or (rows, now)
            changes["rows_per_second"] = (rows - first_rows) / (now - at) if now > at else 0.0
        if changes.get("phase", self.now.phase) != self.now.phase:
            self._phase_begun = now
        durations = {"seconds": now - self._begun, "phase_seconds": now - self._phase_begun}
        self.now = msgspec.structs.replace(self.now, **changes, **durations)


class Telling(Watching):
    """Tells the voice of each policy as well."""

    def __init__(self, voice: Voice, policies_all: int) -> None:
        super().__init__()
        self._voice, self._lock = voice, threading.Lock()
        self._under_way: list[str] = []
        self._done = 0
        self._all = policies_all

    def begun(self, policy: Policy) -> None:
        """Name a policy as under way."""
        with self._lock:
            self._under_way.append(policy.name)
            self._say()

    def done(self, policy: Policy, moves: Moves) -> None:
        """Count a policy as done."""
        with self._lock:
            self._under_way.remove(policy.name)
            self._done += 1
            super().done(policy, moves)
            self._say()

    def _say(self) -> None:
        self._voice.say(
            at_once=True,
            phase="policies",
            under_way=list(self._under_way),
            policies_done=self._done,
            policies_all=self._all,
        )


def read(question: Question, voice: Voice) -> tuple[Source, float]:
    """Return the past that the question names, and the UTC second of its day 0 (0: it has a clock of its own)."""
    accesses, inventory = [Path(path) for path in question.accesses], [Path(path) for path in question.inventory]
    if accesses and not inventory and all(path.is_file() and is_trace(path) for path in accesses):
        return Source(read_traces(accesses)), 0.0
    listing = read_listing(inventory, within=Path(question.within)) if inventory else None
    source = AccessSource(accesses)
    account = listing.account if listing and not accesses else source.account
    batches = _counted(source, voice) if accesses else ()
    past = to_trace(batches, account, listing, compiled=source.compiled)
    voice.say(at_once=True, rows=account.read, rejected=account.rejected.total())
    return source_of(past, readers=_readers(question)), past.origin


def _readers(question: Question) -> Readers:
    """Return what the file of address ranges tells; the data is taken to lie where the prices are of, which is said."""
    if len(question.ranges) > 1:
        raise BadInputError("give one file of address ranges", files=len(question.ranges))
    usual = PriceBook.load(Path(question.prices) if question.prices else None).sheet(question.provider).region
    return readers_of(Path(question.ranges[0]) if question.ranges else None, "", usual)


def _counted(source: AccessSource, voice: Voice) -> Iterator[Accesses]:
    for batch in source:
        voice.say(rows=source.account.read, rejected=source.account.rejected.total(), files=len(source.account.files))
        yield batch


def answer(question: Question, folder: Path, voice: Voice) -> dict[str, Any]:
    """Do what the question asks and return the document; objects and receipts go to the folder."""
    book = PriceBook.load(Path(question.prices) if question.prices else None)
    voice.say(at_once=True, phase=BLOCKS_READ, files_all=len(question.accesses) + len(question.inventory))
    source, origin = read(question, voice)
    if not question.accesses:
        where = question.where if question.where.store else None
        found_bill = {}
        if question.bill:
            invoice = _invoice([Path(path) for path in question.bill])
            found_bill = {"bill_beside": month_beside_invoice(source, invoice, book, question.provider)}
        classes = classes_set(book, question.provider, question.classes)
        document = inventory_document(source, book, question.provider, where, classes=classes)
        return {"kind": "inventory"} | document | found_bill
    voice.say(at_once=True, phase="days")
    trace = source.trace(stretch=question.stretch, horizon_days=question.horizon_days)
    wanted = question.policies or ("all",)
    learned = source.learned(trace, stretch=question.stretch)
    source = source.billed(stretch=question.stretch, horizon_days=question.horizon_days)
    watching = Telling(voice, _count(question, book, wanted))
    found = compare(
        trace,
        book,
        question.provider,
        classes=question.classes,
        names=wanted,
        read_bytes=source.read_bytes,
        keep_fabric=True,
        learned=learned,
        watcher=watching,
    )
    voice.say(at_once=True, phase="receipts", under_way=[])
    nothing = do_nothing(trace, found.tariff, source, book, question.provider)
    judged = gated_course(trace, found.tariff, learned)  # again: a comparison hands over moves without their figures
    courses = watching.courses | {NOTHING: Course(nothing.tariff, nothing.moves), FABRIC_GATED: judged}
    keep(folder, trace, courses, source.names)
    facts = {"kind": "comparison", "assumptions": [*source.assumed], "do_nothing": nothing.lines, **source.told}
    if question.bill:
        facts["bill"] = beside_invoice(nothing, _invoice([Path(path) for path in question.bill]))
    return found.document() | facts | _shown(found, origin)


def classes_set(book: PriceBook, provider: str, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes whose break-evens are asked for: none where the page's own choice of plain ones was left."""
    managed = set(book.sheet(provider).managed)
    untouched = set(classes) - managed == set(default_classes(book, provider)) - managed
    return () if untouched else classes


def _count(question: Question, book: PriceBook, wanted: Iterable[str]) -> int:
    tariff = tariff_of(book, question.provider, question.classes or default_classes(book, question.provider))
    known = policies(tariff, book.sheet(question.provider))
    return len({OPTIMUM, FABRIC} | {policy.name for policy in chosen(known, wanted)})


def _invoice(paths: list[Path]) -> Any:
    from fabric.formats.invoice import read_invoice

    return read_invoice(paths)


def _shown(found: Comparison, origin: float) -> dict[str, Any]:
    low, high = found.egress
    online = {outcome.policy.name: outcome.policy.online for outcome in found.outcomes}
    return {
        "prices": prices(found.tariff),
        "optimum": found.optimum,
        "egress": {"low": low, "high": high},
        "online": online,
        "origin": origin,
    }


def main(folder: Path) -> None:
    """Answer the question in ``folder``, or say why not."""
    os.nice(NICENESS)
    bound_memory(MEMORY_BYTES_MOST)
    end_with_parent()
    question = msgspec.json.decode((folder / "question.json").read_bytes(), type=Question)
    try:
        try:
            found = answer(question, folder, Voice(folder))
        except MemoryError as error:
            raise CapacityError(
                "the replay needs more memory than it may use",
                most_bytes=MEMORY_BYTES_MOST,
                hint="give fewer files, or replay on the command line: python -m fabric replay",
            ) from error
    except FabricError as error:
        write_whole(folder / "problem.json", msgspec.json.encode(error.problem()), durable=False)
        return
    write_whole(folder / "answer.json", msgspec.json.encode(found), durable=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
