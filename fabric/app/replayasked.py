"""What people ask the time machine: checked, named by the hash of all that the answer rests on, and as a command."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

import fabric
from fabric.app.recorded import LISTING_FILE, TRACE_FILE
from fabric.app.replaykept import FORMAT, ID_LETTERS, Kind
from fabric.app.uploads import Given
from fabric.core.errors import BadInputError, NotFoundError
from fabric.placement.replay.tariff import MANAGED, default_classes
from fabric.placement.replay.today import Where
from fabric.pricing.sheet import PriceBook

PROVIDERS = ("aws", "gcp", "azure")
# counts up where the same question gets another answer: 2 learns nothing from scanners, 3 has the gate, 4 its price and
ANSWERED = 4  # the break-evens of the classes that were chosen

Export = Callable[[Path], Path]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person asks to have replayed."""

    upload: str = ""
    store: str = ""  # a connected store, whose last scan is the inventory
    history: bool = False  # the accesses that the fabric itself has recorded
    provider: str = "aws"
    classes: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    stretch: float = 1.0
    horizon_days: int | None = None

    def as_logged(self, files: Sequence[Given]) -> bool:
        """Say whether the store's objects are named as in its access log: one is given."""
        return not self.history and any(file.role == "accesses" for file in files)


class ScannedStores(Protocol):
    """The connected stores that were scanned (`fabric.app.recorded.ScannedStores`)."""

    def marks(self) -> Mapping[str, str]: ...

    def where(self, store: str) -> Where: ...

    def write(self, file: Path, store: str, provider: str, *, as_logged: bool = False) -> Path: ...


@dataclass(frozen=True, slots=True)
class Known:
    """What a question can be about beside uploaded files.

    Attributes:
        prices: a file laid over the built-in price sheets, "" for none.
        history: writes the fabric's own accesses as a trace into a folder.
        history_mark: names the state of the recorded accesses; "" where there are none.
    """

    prices: str = ""
    history: Export | None = None
    history_mark: Callable[[], str] = str
    stores: ScannedStores | None = None

    @property
    def scans(self) -> Mapping[str, str]:
        """Return the stores with a complete scan, and what names the state of each."""
        return {} if self.stores is None else self.stores.marks()

    @property
    def book(self) -> PriceBook:
        return PriceBook.load(Path(self.prices) if self.prices else None)

    def choices(self) -> dict[str, Any]:
        """Return what the page lets people choose."""
        return {
            "providers": {name: _choice(self.book, name) for name in PROVIDERS},
            "history": bool(self.history_mark()),
            "stores": sorted(self.scans),
        }


def read_question(body: dict[str, Any]) -> Asked:
    """Return what is asked; BadInputError where it cannot be understood."""
    try:
        return msgspec.convert(body, Asked)
    except msgspec.ValidationError as error:
        raise BadInputError(f"the question cannot be understood: {error}", hint="see /api/openapi.json") from error


def check_question(asked: Asked, files: Sequence[Given], known: Known) -> None:
    """Raise BadInputError, NotFoundError or ConfigError where there can be no answer."""
    if asked.provider not in PROVIDERS:
        raise BadInputError("there are no prices of the provider", provider=asked.provider[:40])
    roles = {file.role for file in files}
    _check_sources(asked, roles, known)
    _check_unused(asked, roles)
    book = known.book
    for name in asked.classes:
        if name not in (*book.classes(asked.provider), *book.sheet(asked.provider).managed):
            book.price(asked.provider, name)  # says which are known
    if not 0 < asked.stretch < float("inf"):
        raise BadInputError("the stretch must be above 0", stretch=asked.stretch)
    if asked.horizon_days is not None and asked.horizon_days < 1:
        raise BadInputError("the horizon must be at least one day", horizon_days=asked.horizon_days)


def _check_sources(asked: Asked, roles: set[str], known: Known) -> None:
    if not roles and not asked.history and not asked.store:
        raise BadInputError("there is nothing to replay", hint="choose an access log, an inventory, or the history")
    if asked.store and asked.store not in known.scans:
        raise NotFoundError("no such store was scanned", store=asked.store[:80], hint="choose one of the list")
    if asked.store and "inventory" in roles:
        raise BadInputError("give an inventory or a connected store, not both")
    if asked.history and "accesses" in roles:
        raise BadInputError("give access logs or the fabric's own history, not both")
    if asked.history and not known.history_mark():
        raise NotFoundError("the fabric has recorded no access yet", hint="choose an access log")
    if roles <= {"bill", "ranges"} and not asked.history and not asked.store:
        raise BadInputError("an invoice or address ranges alone say nothing of objects", hint="add an access log")


def _check_unused(asked: Asked, roles: set[str]) -> None:
    """Refuse what means something with accesses only; the page always sends all options, so a default is not set."""
    if asked.history or "accesses" in roles:
        return
    set_here = {
        "policies": asked.policies not in ((), ("all",)),
        "stretch (times multiplied by)": asked.stretch != 1.0,
        "horizon_days (days billed)": asked.horizon_days is not None,
        "ranges (address ranges)": "ranges" in roles,
    }
    if unused := [name for name, is_set in set_here.items() if is_set]:
        raise BadInputError(
            f"without accesses nothing can come of {', '.join(unused)}", hint="add an access log or leave them out"
        )


def name_of(asked: Asked, files: Sequence[Given], known: Known) -> str:
    """Return the hash of all that the answer rests on."""
    options = {name: value for name, value in msgspec.to_builtins(asked).items() if name != "upload"}
    prices = Path(known.prices).read_bytes() if known.prices else b""
    sheet = known.book.sheet(asked.provider)
    inputs = [
        FORMAT,
        ANSWERED,
        fabric.__version__,
        sorted((f.role, f.name, f.sha256) for f in files),
        options,
        known.history_mark() if asked.history else "",
        known.scans.get(asked.store, ""),
        hashlib.sha256(prices).hexdigest(),
        [sheet.date, sheet.source],
    ]
    return hashlib.sha256(msgspec.json.encode(inputs, order="deterministic")).hexdigest()[:ID_LETTERS]


def command_for(kind: Kind, folder: Path, classes: Sequence[str], key: str, prices: str) -> str:
    """Return the command that gives an object's receipt of a kept result, where the uploaded files lie.

    Args:
        folder: of the result.
    """
    asked = msgspec.convert(kind.asked, Asked)
    words = ["python", "-m", "fabric", "replay"]
    if asked.history:
        words += ["--accesses", str(folder / TRACE_FILE)]
    for role in ("accesses", "inventory"):
        names = [file["name"] for file in kind.files if file["role"] == role]
        words += [f"--{role}", *names] if names else []
    if asked.store:
        words += ["--inventory", str(folder / LISTING_FILE)]
    words += ["--provider", asked.provider, "--classes", ",".join(classes)]
    words += ["--prices", prices] if prices else []
    words += ["--stretch", f"{asked.stretch:g}"] if asked.stretch != 1.0 else []
    words += ["--horizon-days", str(asked.horizon_days)] if asked.horizon_days is not None else []
    return shlex.join([*words, "--object", key])


def _choice(book: PriceBook, provider: str) -> dict[str, list[str]]:
    """Return the classes that can be chosen, and those chosen where nobody does."""
    managed = [name for name in book.sheet(provider).managed if name in MANAGED]
    return {
        "plain": list(book.classes(provider)),
        "managed": managed,
        "chosen": list(default_classes(book, provider)),
    }
