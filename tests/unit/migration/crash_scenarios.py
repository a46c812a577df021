"""What the crash runs do to a small world of real stores; each is started in one process and ended in another."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from crash_pairs import PAIRS, Pair
from migration_world import ENDED, World

from fabric.catalog.decisions import Decisions
from fabric.catalog.heads import Head, Replica, Version
from fabric.core.clock import SystemClock
from fabric.core.config import MigrationSettings, Settings, StoreSettings
from fabric.core.ids import new_id
from fabric.core.words import Classification, LatencyClass, ObjectPolicy, Place
from fabric.formats.blob import Draft, blob_key
from fabric.migration import parts, schedule
from fabric.migration.points import Reached, nothing
from fabric.migration.sealing import VaultSealer
from fabric.security.keys import KeyTable
from fabric.security.roots import RootKey
from fabric.security.vault import Vault
from fabric.storage import pieces, remote
from fabric.storage.fleet import Fleet
from fabric.storage.store import ObjectInfo
from fabric.storage.wrappers import Around, Chunks

PART = 5 << 20
SMALL = random.Random(1).randbytes(2000)
LARGE = random.Random(2).randbytes(2 * PART + 1000)
SMALL_PART = 1 << 16  # of the large object's parts, where the target takes such parts
GRACE_SECONDS = 100.0
SETTLE_SECONDS = 60.0  # a job that has not ended by then is stuck
DAY = 86400.0
ROOT = RootKey(b"\1" * 32, b"\2" * 32)

_PLAIN, _SEALED, _ANEW = Classification.PUBLIC, Classification.PRIVATE, Classification.SENSITIVE
OBJECTS = {
    "plain": _PLAIN,
    "sealed": _SEALED,  # the same suite everywhere
    "anew": _ANEW,  # another suite on premise than in a cloud
    "large": _PLAIN,  # goes in three parts
    "bulk": _ANEW,  # as large; sealed anew it goes in one write, which the driver sends in parts
    "long": _PLAIN,  # goes in LONG_PARTS parts
}
FEW = tuple(f"small{number}" for number in range(6))  # enough to go together
OBJECTS |= dict.fromkeys(FEW, _PLAIN)
LONG_PARTS = 12


def data_of(key: str, part_bytes: int) -> bytes:
    """Return the plain bytes of an object, the same in every process."""
    whole_parts = {"large": 2, "bulk": 2, "long": LONG_PARTS - 1}.get(key, 0)
    size = whole_parts * part_bytes + 1000 + len(key)
    return random.Random(key).randbytes(size)


def damage(world: World, blob: str) -> None:
    """Change one byte of a stored blob on disk, size and time kept."""
    path = next(world.folder.glob(f"a/*/{blob}"))
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


class ShiftedClock(SystemClock):
    """The machine's clock, set forward by some seconds so that a grace has ended."""

    shift = 0.0

    def now(self) -> float:
        return super().now() + self.shift


class Traced(Around):
    """Writes down every object that is written and deleted, before and after; spoils reads when told to."""

    def __init__(self, inner: object, log: Path) -> None:
        super().__init__(inner)  # type: ignore[arg-type]
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.spoilt: set[str] = set()  # blobs whose reads end in a wrong byte

    def _say(self, what: str, key: str) -> None:
        os.write(self._log, f"{what} {self.name} {key}\n".encode())

    def put(self, key: str, chunks: Chunks, **more: object) -> ObjectInfo:  # type: ignore[override]
        self._say("putting", key)
        info = super().put(key, chunks, **more)  # type: ignore[arg-type]
        self._say("put", key)
        return info

    def complete(self, key: str, *rest: object, **more: object) -> ObjectInfo:  # type: ignore[override]
        self._say("putting", key)
        info = super().complete(key, *rest, **more)  # type: ignore[arg-type]
        self._say("put", key)
        return info

    def delete(self, key: str, *, tag: str | None = None) -> None:
        self._say("deleting", key)
        super().delete(key, tag=tag)
        self._say("deleted", key)

    def _outgoing(self, chunks: Chunks) -> Chunks:
        for chunk in chunks:
            yield bytes(len(chunk)) if self.spoilt else chunk


class CrashWorld(World):
    """A world over a pair's real stores, with the real vault and the real table of decisions."""

    def __init__(
        self,
        folder: Path,
        pair: Pair,
        stores: dict[str, StoreSettings],
        scenario: str,
        *,
        part_bytes: int = SMALL_PART,
        reached: Reached = nothing,
    ) -> None:
        self.pair, self.scenario, self.part_bytes = pair, SCENARIOS[scenario], part_bytes
        self.given_reached: Reached = reached
        self.hooks: list[Reached] = []
        parts.MIB = part_bytes  # part sizes are rounded up to it
        schedule.BACK_OFF_SECONDS = 0.05
        if pair.name == "local-s3":
            remote.SINGLE_MOST_BYTES = pieces.PART_BYTES = part_bytes  # what is sealed anew goes in parts too
        vault = Vault(KeyTable((folder / "keys1", folder / "keys2"), ROOT, SystemClock()))
        wraps = {name: lambda inner: Traced(inner, folder / "deletes.log") for name in stores}
        self.vault = vault
        super().__init__(
            folder,
            clock=ShiftedClock(),
            settings=msgspec.structs.replace(self.scenario.settings, part_bytes=part_bytes),
            reached=self._reached,
            sealer=VaultSealer(vault),
            fleet_given=Fleet(Settings(stores=stores), SystemClock(), wrap=wraps),
        )
        self.decisions = Decisions(self.database, self.clock)  # type: ignore[assignment]
        self.migration._decisions = self.decisions

    def _reached(self, point: str) -> None:
        self.given_reached(point)
        for hook in self.hooks:
            hook(point)

    def traced(self, name: str) -> Traced:
        inner = self.fleet.member(name).store
        while not isinstance(inner, Traced):
            inner = inner.inner
        return inner

    def write_all(self) -> None:
        """Write the scenario's objects sealed, as the data plane does."""
        for key in self.scenario.keys:
            self.write_sealed(key, data_of(key, self.part_bytes))

    def write_sealed(self, key: str, data: bytes) -> Head:
        place, now = Place.parse(self.pair.source), self.clock.now()
        member, version_id = self.fleet.member(place.store), new_id(now)
        policy = ObjectPolicy(OBJECTS.get(key, _PLAIN), latency=LatencyClass.ANY)
        key_id = "" if policy.classification is _PLAIN else self.vault.key_for(key, policy.classification)
        suite = self.vault.suite_for(policy.classification, member.address.zone)
        draft = Draft(key, version_id, now, ("w", 1), {}, policy, key_id=key_id)
        sealed = self.vault.seal(draft, suite, [data])
        info = member.store.put(blob_key(version_id), sealed, only_if_absent=True, storage_class=place.storage_class)
        replica = Replica(place.name, info.key, suite.value, sealed.blob_bytes, sealed.blob_sha256, info.tag)
        version = Version(version_id, len(data), sealed.sha256, now, ("w", 1), {}, (replica,))
        return self.heads.commit(Head(key, policy, (version,), key_id=key_id))

    def decide_all(self, *keys: str) -> None:
        """Record the moves (of every object, without keys) as placement does, in one transaction."""
        asked: list[object] = []
        kept, self.decisions = self.decisions, type("Open", (), {"open": asked})()  # type: ignore[assignment]
        for key in keys or self.scenario.keys:
            self.decide(key, self.pair.target, source=self.pair.source)
        self.decisions = kept
        self.decisions.record(asked)  # type: ignore[attr-defined]

    def go_on(self, until: Callable[[], bool], *, mend: bool = True) -> None:
        """Tick until all that was asked for has ended and ``until`` holds; what waits for a person is approved."""
        end = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < end:
            self.migration.tick()
            if mend:
                self.health.down.clear()
            for job in self.jobs.in_states(["AWAITING_APPROVAL"]):
                self.migration.approve(job.id, "tester")
            if not self.busy() and not self._asked() and until():
                return
            self.migration.tools.stopping.wait(0.002)
        raise AssertionError(f"stuck: {self.told()} {self.jobs.litter()}")

    def _asked(self) -> bool:
        return bool(self.decisions.open_moves(1)) or any(job.state not in ENDED for job in self._all())

    def _all(self) -> Iterable[object]:
        return self.jobs.page(limit=1000)[0]

    def told(self) -> list[tuple[str, str, str]]:
        return [(job.key, job.state, job.reason) for job in self._all()]

    def tidied(self) -> bool:
        return not self.jobs.due(self.clock.now()) and not self.jobs.litter()


class Scenario:
    """What is asked of the world, under which settings, with which objects."""

    def __init__(
        self, act: Callable[[CrashWorld], None], *keys: str, pairs: tuple[str, ...] = tuple(PAIRS), **settings: object
    ) -> None:
        self.act, self.keys, self.pairs = act, keys, pairs
        given = {"workers": 2, "one_request_bytes": 0, "probe_seconds": 0.02, "pause_limit_seconds": 20.0}
        given["grace_days_between_stores"] = given["grace_days_inside_store"] = GRACE_SECONDS / DAY
        self.settings = MigrationSettings(**{**given, **settings})  # type: ignore[arg-type]


def move(world: CrashWorld) -> None:
    """Move every object; the copies at the source stay in grace."""
    world.decide_all()
    world.go_on(lambda: True)


def reap(world: CrashWorld) -> None:
    """Move every object without grace: the copies at the source go at once."""
    world.decide_all()
    world.go_on(world.tidied)


def undo(world: CrashWorld) -> None:
    """Undo every move inside its grace."""
    move(world)
    for key in world.scenario.keys:
        world.migration.roll_back(world.job(key).id, "tester")
    world.go_on(lambda: True)


def spoilt(world: CrashWorld) -> None:
    """Reads at the target end in wrong bytes: every copy is refused and removed."""
    world.traced(world.pair.target[0]).spoilt.add("all")
    world.decide_all()
    world.go_on(lambda: True)


def outage(world: CrashWorld) -> None:
    """The target dies under way and stays away until the jobs are rolled back; what was left is swept later."""
    _die_at(world)
    world.decide_all()
    world.go_on(lambda: True, mend=False)
    world.go_on(world.tidied)


def hiccup(world: CrashWorld) -> None:
    """The target dies under way and is back before the limit: the jobs go on."""
    _die_at(world)
    world.decide_all()
    world.go_on(lambda: True)


def _die_at(world: CrashWorld) -> None:
    at = "class.changed" if world.pair.in_place else "part.saved"

    def down(point: str) -> None:
        if point == at:
            world.health.down.add(world.pair.target[0])
            world.hooks.clear()

    world.hooks.append(down)


_MOVED = ("plain", "sealed", "anew", "large")
_COPIED = tuple(name for name, pair in PAIRS.items() if not pair.in_place)
SCENARIOS = {
    "move": Scenario(move, *_MOVED),
    "together": Scenario(move, *FEW, "large"),
    "bulk": Scenario(move, "bulk"),
    "streamed": Scenario(move, "large", pairs=("local-s3",), one_request_bytes=64 << 20),
    "long": Scenario(move, "long", pairs=()),  # for one test alone
    "reap": Scenario(reap, "plain", "large", grace_days_between_stores=0.0, grace_days_inside_store=0.0),
    "undo": Scenario(undo, "anew", "large"),
    "spoilt": Scenario(spoilt, "plain", "large"),
    "outage": Scenario(outage, "large", pairs=_COPIED, pause_limit_seconds=0.05),
    "hiccup": Scenario(hiccup, "plain", "large"),
    "approved": Scenario(move, "plain", "sealed", high_risk_bytes=1),
}
