"""The fleet: every store of the settings, built, wrapped and named.

Building touches no store: only secret references are resolved. `Fleet.start` makes the folders of managed stores and
probes the stores whose mode may write; a store in mode look or shadow is only ever listed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fabric.core.clock import SECONDS_PER_DAY, Clock
from fabric.core.config import Settings, StoreAddress, StoreSettings, store_address
from fabric.core.errors import FabricError, ModeError, NotFoundError
from fabric.core.words import Mode, Place
from fabric.storage import secrets
from fabric.storage.azure import AzureStore
from fabric.storage.azure_clients import AzureTarget
from fabric.storage.folders import folder_error, translated
from fabric.storage.gcs import GcsStore
from fabric.storage.gcs_clients import GcsTarget
from fabric.storage.hold import Check, Hold
from fabric.storage.keys import WORK_FOLDER
from fabric.storage.leftovers import clear_unfinished
from fabric.storage.local import LocalStore
from fabric.storage.memory import MemoryStore
from fabric.storage.meter import LatencyView, Meter, Observe
from fabric.storage.probe import Findings, probe
from fabric.storage.s3 import S3Store
from fabric.storage.s3_clients import Target
from fabric.storage.store import Store
from fabric.storage.wrappers import Around, Retry

logger = logging.getLogger(__name__)

UNFINISHED_SECONDS = SECONDS_PER_DAY  # unfinished writes that may be someone's are cleared when they are this old
ATTACHED_AT_ONCE = 8  # stores probed side by side at the start
LEAST_MODE = {"list": Mode.LOOK, "read": Mode.COPY, "write": Mode.COPY, "delete": Mode.MOVE}
_ORDER = tuple(Mode)
Wrap = Callable[[Store], Store]


@dataclass(frozen=True, slots=True)
class Member:
    """One store of the fleet. ``store`` is what everyone uses; ``meter`` counts what goes through it."""

    name: str
    store: Store
    address: StoreAddress
    settings: StoreSettings
    meter: Meter
    driver: Store

    @property
    def adopted(self) -> bool:
        return self.settings.kind == "adopted"

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(Place(self.name, storage_class) for storage_class in self.address.classes)


def _never() -> None:
    """Hold nothing up."""


class Fleet:
    """Builds the stores of ``settings``.

    Args:
        observe: is told of every request (store, operation, storage class, seconds, bytes, answered).
        hold: raises FrozenError while a freeze is in force; asked before and during every write.
        wrap: store name -> what to put around its driver, inside retry and meter (the sample world's shapes and
            faults); without it no such wrapper is constructed.

    Raises:
        ConfigError: a store's URL or secret reference is impossible.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        observe: Observe | None = None,
        wrap: Mapping[str, Wrap] | None = None,
        hold: Check = _never,
    ) -> None:
        self._clock = clock
        self._hold = hold
        self._asks_sums = settings.migration.verify == "cheapest"
        self._findings: dict[str, Findings] = {}
        self._members = {
            name: _member(name, given, clock, observe, (wrap or {}).get(name), hold)
            for name, given in settings.stores.items()
        }

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple(self._members.values())

    def member(self, name: str) -> Member:
        """Return the store called ``name``; NotFoundError names those there are."""
        try:
            return self._members[name]
        except KeyError:
            known = ", ".join(self._members) or "none"
            raise NotFoundError("there is no such store", store=name, hint=f"known are {known}") from None

    def places(self) -> tuple[Place, ...]:
        return tuple(place for member in self.members for place in member.places)

    def require(self, name: str, act: str) -> Member:
        """Return the store if its mode allows ``act`` (list, read, write, delete); ModeError names the one needed."""
        member, least = self.member(name), LEAST_MODE[act]
        if _ORDER.index(member.settings.mode) < _ORDER.index(least):
            raise ModeError(
                f"the store's mode does not allow to {act}",
                hint=f"set mode = {least.value!r} for stores.{name}",
                store=name,
                mode=member.settings.mode.value,
                needed=least.value,
            )
        return member

    def latency_ms(self, place: Place) -> LatencyView | None:
        """Return the measured first-byte latency of a place; None before 20 reads."""
        return self.member(place.store).meter.latency_ms(place.storage_class)

    def findings(self, name: str) -> Findings | None:
        """Return what the probe found; None where it has not run or could not."""
        return self._findings.get(name)

    def start(self) -> None:
        """Make managed folders, clear old unfinished writes, probe what may be written. A store that fails stays.

        While a freeze is in force nothing is done: call it again when that is lifted. What was probed stays as it is.
        """
        writable = [m for m in self.members if m.settings.mode.may_write]
        for member in writable:
            self._clear_or_tell(member)
        waiting = [m for m in writable if m.name not in self._findings]
        with ThreadPoolExecutor(ATTACHED_AT_ONCE, "attach") as pool:
            list(pool.map(self._attach_or_tell, waiting))

    def probe(self, name: str) -> Findings:
        """Probe one store again and go by what is found from now on.

        A server that keeps a SHA-256 is asked for it only where it may be a copy's proof, not where each is read back.
        """
        member = self.require(name, "write")
        found = probe(member.driver, self._clock, mode=member.settings.mode)
        sums = found.capabilities.server_sha256 and self._asks_sums
        member.driver.capabilities = msgspec.structs.replace(found.capabilities, server_sha256=sums)
        self._findings[name] = found
        return found

    def close(self) -> None:
        for member in self.members:
            member.store.close()

    def _attach_or_tell(self, member: Member) -> None:
        try:
            self._hold()
            self._attach(member)
        except FabricError as error:
            logger.warning("store not probed", extra={"store": member.name, "why": str(error)})

    def _attach(self, member: Member) -> None:
        if member.address.scheme == "file":
            root = Path(member.address.path)
            if not member.adopted:
                _make(root, member.name)
        self.probe(member.name)

    def _clear_or_tell(self, member: Member) -> None:
        """Remove what writers that died left in a folder."""
        if member.address.scheme != "file":
            return
        root = Path(member.address.path)
        try:
            self._hold()
            with translated(store=member.name, path=root, key=""):
                cleared = clear_unfinished(root / WORK_FOLDER, before=self._clock.now() - UNFINISHED_SECONDS)
        except FabricError as error:
            logger.warning("unfinished writes are left", extra={"store": member.name, "why": str(error)})
            return
        if cleared:
            logger.info("unfinished writes removed", extra={"store": member.name, "files": cleared})


def _make(root: Path, store: str) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise folder_error(error, store=store, path=str(root), key="") from error


def _member(
    name: str, given: StoreSettings, clock: Clock, observe: Observe | None, wrap: Wrap | None, hold: Check
) -> Member:
    address = store_address(name, given)
    driver = build_driver(name, given, address, clock)
    meter = Meter(Retry(wrap(driver) if wrap is not None else driver), clock, observe=observe)
    return Member(name, Hold(meter, hold), address, given, meter, driver)


def build_driver(name: str, given: StoreSettings, address: StoreAddress, clock: Clock) -> Store:
    """Return the bare driver for an address; nothing is touched before its first use."""
    if address.scheme == "file":
        return LocalStore(
            name,
            Path(address.path),
            classes=address.classes,
            adopted=given.kind == "adopted",
            capacity_bytes=given.capacity_bytes,
        )
    if address.scheme == "memory":
        return MemoryStore(name, classes=address.classes, capacity_bytes=given.capacity_bytes, clock=clock)
    store = _cloud(name, given, address, clock, given.credentials)
    if given.delete_credentials:
        return DeletesApart(store, _cloud(name, given, address, clock, given.delete_credentials))
    return store


def _cloud(name: str, given: StoreSettings, address: StoreAddress, clock: Clock, credentials: str) -> Store:
    """Return the driver of a provider's address; its libraries are imported by its first request."""
    made = {"s3": _s3, "az": _azure, "gs": _gcs}[address.scheme]
    return made(name, given, address, clock, credentials)


def _s3(name: str, given: StoreSettings, address: StoreAddress, clock: Clock, credentials: str) -> Store:
    target = Target(
        address.bucket,
        endpoint=address.endpoint,
        region=address.region,
        addressing=given.addressing,
        profile=given.profile,
        credentials=secrets.credentials(credentials),
    )
    return S3Store(
        name, target, prefix=address.path, classes=address.classes, capacity_bytes=given.capacity_bytes, clock=clock
    )


def _azure(name: str, given: StoreSettings, address: StoreAddress, clock: Clock, credentials: str) -> Store:
    target = AzureTarget(address.bucket, endpoint=address.endpoint, secret=secrets.text(credentials))
    return AzureStore(
        name, target, prefix=address.path, classes=address.classes, capacity_bytes=given.capacity_bytes, clock=clock
    )


def _gcs(name: str, given: StoreSettings, address: StoreAddress, _: Clock, credentials: str) -> Store:
    target = GcsTarget(address.bucket, endpoint=address.endpoint, secret=secrets.text(credentials))
    return GcsStore(name, target, prefix=address.path, classes=address.classes, capacity_bytes=given.capacity_bytes)


class DeletesApart(Around):
    """Deletes with credentials of their own; everything else cannot delete even by mistake."""

    def __init__(self, inner: Store, deleter: Store) -> None:
        super().__init__(inner)
        self._deleter = deleter

    def delete(self, key: str, *, tag: str | None = None) -> None:
        self._deleter.delete(key, tag=tag)

    def close(self) -> None:
        self.inner.close()
        self._deleter.close()
