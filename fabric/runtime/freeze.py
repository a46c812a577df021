"""The freeze: stops every act on every store until it is lifted by name; survives a restart."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from fabric.core.clock import Clock, iso
from fabric.core.errors import BadInputError, ConflictError, CorruptError, FrozenError
from fabric.core.files import write_whole


class FreezeState(msgspec.Struct, frozen=True):
    """Who froze what, when and why. ``name`` is what lifts it."""

    name: str
    who: str
    at: float
    why: str = ""


class Freeze:
    """Holds the freezes in force. A look at it is a dictionary look-up: ask before every act.

    Args:
        path: the file that keeps them over a restart; a damaged one raises CorruptError (frozen is the safe state).
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._states = self._load()

    def check(self) -> None:
        """Raise FrozenError when any freeze is in force."""
        for state in self._states.values():
            raise FrozenError(
                "the fabric is frozen",
                name=state.name,
                who=state.who,
                since=iso(state.at),
                hint=f"lift it with: python -m fabric freeze --lift {state.name}",
            )

    def states(self) -> list[FreezeState]:
        """Return the freezes in force, oldest first."""
        return sorted(self._states.values(), key=lambda state: state.at)

    def freeze(self, name: str, who: str, why: str = "") -> FreezeState:
        """Freeze under ``name``; in force, and on disk, when it returns."""
        if not name or not name.replace("-", "").replace("_", "").isalnum():
            raise BadInputError("a freeze needs a name of letters, digits, - and _", name=name)
        with self._lock:
            state = FreezeState(name, who, self._clock.now(), why)
            self._store(self._states | {name: state})
        return state

    def lift(self, name: str) -> None:
        """Lift the freeze called ``name``; ConflictError when there is none."""
        with self._lock:
            if name not in self._states:
                raise ConflictError("no freeze has that name", name=name, in_force=", ".join(self._states) or "none")
            self._store({key: state for key, state in self._states.items() if key != name})

    def _store(self, states: dict[str, FreezeState]) -> None:
        write_whole(self._path, msgspec.json.encode(list(states.values())), durable=True)
        self._states = states

    def _load(self) -> dict[str, FreezeState]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return {state.name: state for state in msgspec.json.decode(data, type=list[FreezeState])}
        except msgspec.DecodeError as error:
            raise CorruptError(
                "the freeze file is damaged",
                path=str(self._path),
                hint="look whether a freeze was meant; remove the file to start unfrozen",
            ) from error
