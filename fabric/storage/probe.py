"""Finds out what a store really does, by doing it under ``.fabric/``: only in modes that may write.

A server that accepts a precondition and ignores it looks like one that keeps it until two writers meet. So writers are
made to meet here, and a store that lets both win may hold data, never heads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import msgspec

from fabric.core.clock import Clock
from fabric.core.errors import FabricError, ModeError, PreconditionError
from fabric.core.ids import new_id
from fabric.core.words import Mode
from fabric.storage.keys import WORK_FOLDER
from fabric.storage.store import Capabilities, Store
from fabric.storage.wrappers import innermost

logger = logging.getLogger(__name__)

RACERS = 4
ROUNDS = 2
INCREMENTS = 3  # of each racer
TRIES_MOST = 60  # of one increment
_DATA = b"0123456789" * 100


@dataclass(frozen=True, slots=True)
class Findings:
    """What a store really does; ``notes`` says for each capability what was seen."""

    store: str
    capabilities: Capabilities
    notes: dict[str, str]

    @property
    def lacking(self) -> tuple[str, ...]:
        return tuple(name for name in self.notes if not getattr(self.capabilities, name))


def probe(store: Store, clock: Clock, *, mode: Mode) -> Findings:
    """Try each capability the store declares; return what holds. Everything written is removed.

    Raises:
        ModeError: ``mode`` may not write; nothing was sent.
        ForbiddenError, UnavailableError: the store does not let itself be probed; nothing is known.
    """
    if not mode.may_write:
        raise ModeError("the probe writes", hint="set the store's mode to copy or move", store=store.name, mode=mode)
    trial = _Trial(store, f"{WORK_FOLDER}/probe/{new_id(clock.now())}")
    try:
        return trial.run()
    finally:
        trial.clean()


@runtime_checkable
class Sums(Protocol):
    """A store whose server may check and keep a SHA-256."""

    def keeps_sha256(self, key: str) -> bool:
        """Try it on ``key``, which may hold an object afterwards."""


class _Trial:
    """One run over one folder of probe objects."""

    def __init__(self, store: Store, base: str) -> None:
        self._store = store
        self._base = base
        self._keys: set[str] = set()

    def run(self) -> Findings:
        declared = self._store.capabilities
        acts: dict[str, Callable[[], str]] = {
            "create_only": self._create_only,
            "compare_and_set": self._compare_and_set,
            "ranges": self._ranges,
            "multipart": self._multipart,
            "list_parts": self._list_parts,
            "class_change": self._class_change,
            "conditional_delete": self._conditional_delete,
        }
        self._store.put(self._key("first"), [_DATA])  # what is refused here is refused altogether
        notes = {name: self._try(act) for name, act in acts.items() if getattr(declared, name)}
        wrong = {name: False for name, note in notes.items() if note}
        found = msgspec.structs.replace(declared, server_sha256=self._keeps_sha256(), **wrong)
        logger.info("store probed", extra={"store": self._store.name, "lacking": ",".join(wrong) or "nothing"})
        return Findings(self._store.name, found, {name: note or "held" for name, note in notes.items()})

    def clean(self) -> None:
        for key in sorted(self._keys):
            try:
                self._store.delete(key)
            except FabricError as error:
                logger.warning(
                    "a probe object is left behind", extra={"store": self._store.name, "key": key, "why": error}
                )

    def _try(self, act: Callable[[], str]) -> str:
        try:
            return act()
        except FabricError as error:
            return f"failed: {error.message}"

    def _keeps_sha256(self) -> bool:
        store = innermost(self._store)
        try:
            return isinstance(store, Sums) and store.keeps_sha256(self._key("sha256"))
        except FabricError:
            return False

    def _key(self, name: str) -> str:
        key = f"{self._base}/{name}"
        self._keys.add(key)
        return key

    def _create_only(self) -> str:
        for turn in range(ROUNDS):
            key = self._key(f"create-{turn}")
            create = partial(self._create, key)
            winners = self._race(create)
            if winners != 1 or self._wins(partial(create, RACERS)):
                return f"{winners} of {RACERS} creators of one key were told that they made it"
        return ""

    def _compare_and_set(self) -> str:
        key = self._key("counter")
        stale = self._store.put(key, [b"0"]).tag
        self._race(partial(self._increment, key))
        if self._wins(lambda: self._store.put(key, [b"-1"], only_if_tag=stale)):
            return "a write with an old tag was accepted"
        total = int(self._read(key))
        return "" if total == RACERS * INCREMENTS else f"{RACERS * INCREMENTS - total} increments were lost"

    def _increment(self, key: str, _racer: int) -> None:
        left = INCREMENTS
        for _ in range(TRIES_MOST):
            with self._store.open(key) as reading:
                tag, value = reading.info.tag, int(b"".join(bytes(piece) for piece in reading))
            left -= self._wins(partial(self._store.put, key, [f"{value + 1}".encode()], only_if_tag=tag))
            if left == 0:
                return

    def _ranges(self) -> str:
        return "" if self._read(self._key("first"), start=10, end=25) == _DATA[10:25] else "other bytes came back"

    def _multipart(self) -> str:
        key = self._key("parts")
        upload = self._store.begin(key)
        part = self._store.put_part(key, upload, 1, _DATA)
        self._store.complete(key, upload, (part,))
        return "" if self._read(key) == _DATA else "other bytes came back"

    def _list_parts(self) -> str:
        key = self._key("unfinished")
        upload = self._store.begin(key)
        try:
            part = self._store.put_part(key, upload, 1, _DATA)
            return "" if self._store.list_parts(key, upload) == (part,) else "a stored part is not listed"
        finally:
            self._store.abort(key, upload)

    def _class_change(self) -> str:
        key, cold = self._key("class"), self._store.classes[-1]
        self._store.put(key, [_DATA])
        self._store.set_class(key, cold)
        if self._store.head(key).storage_class != cold:
            return "the change was accepted and did nothing"
        return "" if self._read(key) == _DATA else "other bytes came back"

    def _conditional_delete(self) -> str:
        key = self._key("delete")
        stale = self._store.put(key, [b"old"]).tag
        self._store.put(key, [b"newer"])
        return "a delete with an old tag was accepted" if self._wins(lambda: self._store.delete(key, tag=stale)) else ""

    def _create(self, key: str, number: int) -> None:
        self._store.put(key, [f"writer {number}".encode()], only_if_absent=True)

    def _read(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        with self._store.open(key, start=start, end=end) as reading:
            return b"".join(bytes(piece) for piece in reading)

    def _wins(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except PreconditionError:
            return False
        return True

    def _race(self, act: Callable[[int], object]) -> int:
        ready = threading.Barrier(RACERS)

        def run(number: int) -> bool:
            ready.wait()
            return self._wins(lambda: act(number))

        with ThreadPoolExecutor(RACERS) as pool:
            return sum(pool.map(run, range(RACERS)))
