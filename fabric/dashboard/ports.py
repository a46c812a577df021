"""What the dashboard needs of the rest of the fabric; `fabric.app` supplies the objects."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Protocol

from fabric.core.clock import Clock
from fabric.runtime.component import Explanation, Page
from fabric.runtime.measures import Measure

_CHECKOUT, _INSTALLED = Path(__file__).resolve().parents[2] / "web", "share/intelligent-data-fabric/web"
WEB_FOLDER = _CHECKOUT if _CHECKOUT.is_dir() else Path(sysconfig.get_path("data")) / _INSTALLED
RUN_COMMAND = "python3 run_complete_system.py"


class Principal(Protocol):
    """Who asks: a name and a role."""

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Person:
    """A principal known to the dashboard itself: whoever holds a page's session."""

    name: str
    role: str


class Freeze(Protocol):
    """One freeze in force, as ``runtime.freeze`` keeps it."""

    @property
    def name(self) -> str: ...

    @property
    def who(self) -> str: ...

    @property
    def at(self) -> float: ...

    @property
    def why(self) -> str: ...


class Source(Protocol):
    """A component, as far as the dashboard looks into it."""

    def page(self, kind: str, *, search: str = "", cursor: str | None = None, limit: int = 100) -> Page: ...

    def explain(self, key: str) -> Explanation: ...


class TimeMachine(Protocol):
    """Replays of a past: files in, one replay at a time, results kept by the hash of their inputs.

    Whatever changes something checks the caller's role itself; ``who`` is None for nobody in particular.
    """

    def overview(self, who: Principal | None) -> dict[str, Any]: ...

    def take(self, who: Principal | None, upload: str, role: str, name: str, stream: IO[bytes]) -> dict[str, Any]: ...

    def drop(self, who: Principal | None, upload: str) -> dict[str, Any]: ...

    def start(self, who: Principal | None, body: dict[str, Any]) -> dict[str, Any]: ...

    def state(self, replay: str) -> dict[str, Any]: ...

    def end(self, who: Principal | None, replay: str) -> dict[str, Any]: ...

    def objects(self, replay: str, *, search: str, cursor: str | None, limit: int, sort: str) -> Page: ...

    def receipt(self, replay: str, number: int) -> dict[str, Any]: ...


Act = Callable[[Principal, dict[str, Any]], dict[str, Any]]


class Exposure(StrEnum):
    """How the server is bound, which decides what it serves to whom."""

    LOOPBACK = "loopback"  # reading is free, changes need a token or a session
    PROTECTED = "protected"  # TLS, ours or a proxy's: everything but /healthz needs a token or a session
    READ_ONLY = "read_only"  # neither loopback nor TLS: as protected, and nothing can be changed


def exposure_of(bind: str, *, tls: bool) -> Exposure:
    """Return what may be served on ``bind``; ``tls`` is true with a certificate or FABRIC_TLS=proxy."""
    if bind in ("localhost", "::1") or bind.startswith("127."):
        return Exposure.LOOPBACK
    return Exposure.PROTECTED if tls else Exposure.READ_ONLY


def _nobody(_token: str) -> Principal | None:
    return None


def _no_key(_version_id: str) -> str | None:
    return None


def _anyone(_who: Principal | None, _key: str) -> None:
    """Let everybody see everything: a display process passes such questions on to the engine."""


@dataclass(frozen=True, slots=True)
class DashboardPorts:
    """Everything the dashboard is given. The defaults are a display process: it reads the files and no more.

    Args:
        folder: ``data/exports``.
        clock: tells the age of reports.
        report_key: what seals the reports' digests; None where this process may not know it.
        session_key: >= 16 secret bytes that sign page sessions; the same for every process of one data folder.
        who: the principal of a bearer token, None for one that is not known.
        sources: section -> the component behind it; empty in a display process.
        acts: name -> what carries it out; each checks the principal's role itself.
        measures: the latest measured figures, for ``/api/metrics`` and ``/metrics``.
        freezes: the freezes in force.
        may_see: raises ForbiddenError where who asks (None: nobody in particular) may not read the object of a key.
        resolve: the key of a version id, None for an unknown one.
        time_machine: replays of a past; None where there is no engine.
        ready: "" when requests can be served, else one sentence on what is missing.
        hosts: Host names accepted beside the loopback ones.
        secure: TLS is in force, here or at the proxy: cookies say Secure.
        rules: what is real and what is made up in the sample world: (what, by which rule); empty in one's own world.
        transports: Socket.IO transports; websocket alone where several workers serve one address.
    """

    folder: Path
    clock: Clock
    session_key: bytes
    report_key: bytes | None = None
    who: Callable[[str], Principal | None] = _nobody
    sources: Mapping[str, Source] = field(default_factory=dict)
    acts: Mapping[str, Act] = field(default_factory=dict)
    measures: Callable[[], Sequence[Measure]] = tuple
    freezes: Callable[[], Sequence[Freeze]] = tuple
    may_see: Callable[[Principal | None, str], None] = _anyone
    resolve: Callable[[str], str | None] = _no_key
    time_machine: TimeMachine | None = None
    ready: Callable[[], str] = str
    exposure: Exposure = Exposure.LOOPBACK
    hosts: tuple[str, ...] = ()
    secure: bool = False
    rules: Sequence[tuple[str, str]] = ()
    transports: tuple[str, ...] = ("polling", "websocket")
    web: Path = WEB_FOLDER
