"""Tests a store as its mode will use it, and prints the smallest rights that mode needs.

Modes look and shadow send one listing and nothing else. Modes copy and move read one byte of one object and run the
probe under ``.fabric/``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabric.core.clock import Clock
from fabric.core.config import StoreAddress, StoreSettings, store_address
from fabric.core.errors import FabricError, ForbiddenError
from fabric.core.words import Mode
from fabric.storage.atime import AtimeTrust, atime_trust
from fabric.storage.fleet import build_driver
from fabric.storage.grants import policy, rights
from fabric.storage.keys import WORK_FOLDER
from fabric.storage.probe import probe
from fabric.storage.store import ObjectInfo, Store


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried. ``permission`` names the right that is missing, "" where none is.

    ``exit_code`` is that of the error that came instead of an answer.
    """

    name: str
    ok: bool
    detail: str
    permission: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Connection:
    """What a test of a store found."""

    store: str
    address: StoreAddress
    mode: Mode
    checks: tuple[Check, ...]
    policy: dict[str, Any] | None  # the provider's own document: an IAM policy, a role with its condition, a binding
    rights: str  # the same in words; for folders the rights needed
    atime: AtimeTrust

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)


def connect(name: str, given: StoreSettings, clock: Clock) -> Connection:
    """Try what the mode of ``given`` needs and say what works; nothing is raised for what does not.

    Raises:
        ConfigError: the URL or a secret reference is impossible.
    """
    address = store_address(name, given)
    driver = build_driver(name, given, address, clock)
    try:
        checks = tuple(_checks(driver, address, given.mode, clock))
    finally:
        driver.close()
    granted = policy(address, given.mode)
    return Connection(name, address, given.mode, checks, granted, rights(address, given.mode), atime_trust(driver))


def _checks(driver: Store, address: StoreAddress, mode: Mode, clock: Clock) -> list[Check]:
    first: list[ObjectInfo] = []
    found = [_try("list", lambda: _list(driver, first))]
    if not found[0].ok:
        return found
    if address.scheme == "file":
        found += _folder_checks(Path(address.path), mode)
    if mode.may_write:
        if first:
            found.append(_try("read", lambda: _read_one(driver, first[0].key)))
        found.append(_try("write", lambda: _probe(driver, mode, clock)))
    return found


def _try(name: str, act: Callable[[], str]) -> Check:
    try:
        return Check(name, True, act())
    except ForbiddenError as error:
        lacking = str(error.context.get("permission") or error.context.get("path") or "")
        return Check(name, False, str(error), lacking, error.exit_code)
    except FabricError as error:
        return Check(name, False, str(error), exit_code=error.exit_code)


def _list(driver: Store, first: list[ObjectInfo]) -> str:
    first += [info for info in driver.list(limit=2) if not info.key.startswith(f"{WORK_FOLDER}/")]
    return f"listed; the first key is {first[0].key}" if first else "listed; it holds nothing yet"


def _read_one(driver: Store, key: str) -> str:
    with driver.open(key, start=0, end=1) as reading:
        read = sum(len(piece) for piece in reading)
    return f"read {read} byte of {key}"


def _probe(driver: Store, mode: Mode, clock: Clock) -> str:
    found = probe(driver, clock, mode=mode)
    if found.lacking:
        seen = "; ".join(f"{name}: {found.notes[name]}" for name in found.lacking)
        heads = "may" if found.capabilities.may_hold_heads else "must not"
        return f"writes work, but not everything is kept ({seen}); it {heads} hold heads"
    return "writes, conditions, ranges and parts work; it may hold heads"


def _folder_checks(root: Path, mode: Mode) -> list[Check]:
    """Ask the system for rights without using them."""
    wanted = os.R_OK | os.X_OK | (os.W_OK if mode.may_write else 0)
    allowed = os.access(root, wanted)
    right = "rwx" if mode.may_write else "r-x"
    named = f"{right} on {root}"
    lacking = ("", 0) if allowed else (named, ForbiddenError.exit_code)
    return [Check("rights", allowed, named, *lacking)]
