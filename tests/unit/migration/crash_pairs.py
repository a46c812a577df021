"""The pairs of the crash matrix: which stores a run's world has, and what is moved between which of its places."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import servers

from fabric.core.config import StoreSettings
from fabric.core.words import Mode, Zone


@dataclass(frozen=True, slots=True)
class Pair:
    """``a`` is the source's store, ``b`` the target's; of one letter: a class change in place."""

    name: str
    source: str  # Place.name
    target: str
    kinds: dict[str, str]  # store -> local | s3 | azure | gcs

    @property
    def in_place(self) -> bool:
        return self.source[0] == self.target[0]


PAIRS = {
    pair.name: pair
    for pair in (
        Pair("local-local", "a/hot", "b/cold", {"a": "local", "b": "local"}),
        Pair("local-s3", "a/hot", "b/standard_ia", {"a": "local", "b": "s3"}),
        Pair("s3-azure", "a/standard", "b/cool", {"a": "s3", "b": "azure"}),
        Pair("s3-class", "a/standard", "a/standard_ia", {"a": "s3"}),
        Pair("gcs-local", "a/standard", "b/hot", {"a": "gcs", "b": "local"}),
        Pair("s3-s3", "a/standard", "b/standard_ia", {"a": "s3", "b": "s3"}),  # these three: copied by their server
        Pair("azure-azure", "a/hot", "b/cool", {"a": "azure", "b": "azure"}),
        Pair("gcs-gcs", "a/standard", "b/standard", {"a": "gcs", "b": "gcs"}),
    )
}
_ZONES = {"local": Zone.ON_PREMISE, "s3": Zone.AWS, "azure": Zone.AZURE, "gcs": Zone.GCP}
_CLASSES = {
    "local": ("hot", "cold"),
    "s3": ("standard", "standard_ia"),
    "azure": ("hot", "cool"),
    "gcs": ("standard",),
}
_SCHEMES = {"s3": "s3", "azure": "az", "gcs": "gs"}


def settings_of(pair: Pair, folder: Path, prefix: str, running: dict[str, servers.Server]) -> dict[str, StoreSettings]:
    """Return the stores of one run: folders below ``folder``, or ``prefix`` in each server's bucket."""
    return {name: _store(name, kind, folder, f"{prefix}-{name}", running) for name, kind in pair.kinds.items()}


def _store(name: str, kind: str, folder: Path, prefix: str, running: dict[str, servers.Server]) -> StoreSettings:
    url, secret = str(folder / name), ""
    if kind != "local":
        server = running[kind]
        url = f"{_SCHEMES[kind]}://{server.bucket}/{prefix}?endpoint={server.endpoint}"
        secret = f"env:{keep_secret(kind, server)}" if server.secret_key else ""
    return StoreSettings(
        url=url,
        zone=_ZONES[kind],
        mode=Mode.MOVE,
        kind="managed",
        classes=_CLASSES[kind],
        region=f"r-{name}",
        credentials=secret,
    )


def keep_secret(kind: str, server: servers.Server) -> str:
    """Put a server's credentials into the environment; return the variable's name."""
    os.environ[f"CRASH_{kind.upper()}"] = f"{server.access_key}:{server.secret_key}"
    return f"CRASH_{kind.upper()}"


def packed(running: dict[str, servers.Server]) -> dict[str, dict[str, object]]:
    return {kind: asdict(server) for kind, server in running.items()}


def unpacked(given: dict[str, dict[str, object]]) -> dict[str, servers.Server]:
    return {kind: servers.Server(**fields) for kind, fields in given.items()}  # type: ignore[arg-type]
