"""Without a past: what an inventory costs today, when each class would pay, and how to have the reads logged.

With an invoice: the do-nothing bill of the replay beside it, line by line, and the rates it was really billed at.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.core.units import DAYS_PER_MONTH, GIB
from fabric.formats.invoice import Invoice
from fabric.formats.rates import Difference, Expected, calibrate, compare_bills, save_rates
from fabric.placement.bill import SMALL_BYTES, bill_rows, class_rows, unpriced
from fabric.placement.ports import AdoptedRow
from fabric.placement.replay.billing import LINES, bill
from fabric.placement.replay.moves import Moves, held
from fabric.placement.replay.sources import Source
from fabric.placement.replay.tariff import Tariff, tariff_of
from fabric.placement.replay.trace import Trace
from fabric.placement.showback import folder
from fabric.pricing.sheet import PriceBook, Site

STORE = "inventory"
LOG_LINE_BYTES = (300, 1000)  # of one access in a log, least and most
READS = 1_000_000  # that the price of logging is stated for
_SWITCH = {
    "aws": "aws s3api put-bucket-logging{endpoint} --bucket {bucket} --bucket-logging-status "
    '\'{{"LoggingEnabled":{{"TargetBucket":"{logs}","TargetPrefix":"{bucket}/"}}}}\'',
    "gcp": "gcloud storage buckets update gs://{bucket} --log-bucket=gs://{logs} --log-object-prefix={bucket}",
    "azure": "az storage account blob-service-properties update --account-name ACCOUNT "
    "--resource-group GROUP --enable-last-access-tracking true",
}
_RATES = ("storage_per_gb_month", "get_per_1k", "put_per_1k", "transition_in_per_1k", "retrieval_per_gb")
_KEPT = "storage of the log for one month; delivery itself is not billed"
_IN_A_FOLDER = (
    "a folder keeps no log: with strict access times the next scan says when each file was last read. Whatever serves "
    "the files can tell every read, by its log (--accesses) or as it happens (POST /api/events)"
)


class Where(msgspec.Struct, frozen=True):
    """Where the objects lie that are priced: a connected store, or by default what an inventory lists.

    Attributes:
        provider: the store's own price sheet.
        scheme: file, s3, az or gs; "" where only an inventory is known.
        bucket: "" where it is not known, or for a folder.
        mount: of a folder, where its file system is mounted.
    """

    store: str = ""
    provider: str = ""
    region: str = ""
    scheme: str = ""
    bucket: str = ""
    endpoint: str = ""
    mount: str = ""


def inventory_document(
    source: Source, book: PriceBook, provider: str, where: Where | None = None, *, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """Return today's storage bill of an inventory or scan and the break-evens of every class, per class and top folder.

    Reads are not known, so no class is given a saving: it pays while an object is read less often than a rate, which
    is given for the worst and the best case (`placement.bill`).

    Args:
        classes: whose break-evens are wanted; none: those of every plain class.

    Raises:
        ConfigError: a class has no price.
    """
    where = where or Where(bucket=_only_bucket(source))
    wanted, managed = _candidates(book, provider, classes)
    rows, assumed = _folders(source, book, provider)
    site = {STORE: Site(provider, where.region if provider == where.provider else "")}
    lacking = unpriced(rows, site, book)
    known = [row for row in rows if row not in lacking]
    bill_now = bill_rows(known, site, book)
    return {
        "total": {name: sum((getattr(row, name) for row in bill_now), 0.0) for name in ("usd", "low", "high")},
        "bill": [msgspec.to_builtins(row) for row in bill_now],
        "break_evens": [msgspec.to_builtins(row) for row in class_rows(known, site, book) if row.candidate in wanted],
        "not_priced": sorted({row.storage_class for row in lacking}),
        "logging": logging_advice(book, provider, where),
        "provider": provider,
        "store": where.store,
        "assumptions": [*source.assumed, *assumed, *managed, *_said(book, provider, where, lacking)],
        **source.told,
    }


def _candidates(book: PriceBook, provider: str, classes: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the plain classes whose break-evens are wanted, and what is said of managed tiers."""
    if not classes:
        return book.classes(provider), ()
    managed = [name for name in classes if name in book.sheet(provider).managed]
    plain = tuple(book.price(provider, name).storage_class for name in classes if name not in managed)
    return plain, tuple(
        f"{name} has no break-even: what it costs depends on when each object is read" for name in managed
    )


def _said(book: PriceBook, provider: str, where: Where, lacking: Sequence[AdoptedRow]) -> list[str]:
    """Return what is said of prices that are no bill, or not this place's, or missing."""
    said = []
    if lacking:
        names = ", ".join(sorted({row.storage_class for row in lacking}))
        objects = sum(row.objects for row in lacking)
        said.append(f"{objects:,} objects are in no sum, because {provider} has no price of their class: {names}")
    if any(book.price(provider, name).sunk for name in book.classes(provider)):
        said.append("own disks are priced at the sheet's estimate of what was bought: nobody sends a bill for them")
    if where.provider and where.provider != provider:
        said.append(f"prices of {provider} are used, though the store {where.store} is one of {where.provider}")
    return said


def logging_advice(book: PriceBook, provider: str, where: Where) -> dict[str, Any]:
    """Return the command that has reads logged, and what keeping the log of a million reads costs a month."""
    hot = book.price(provider, book.classes(provider)[0]).tier.storage_per_gb_month
    low, high = (READS * size / GIB * hot for size in LOG_LINE_BYTES)
    if where.scheme == "file":
        command = f"sudo mount -o remount,strictatime {shlex.quote(where.mount)}"
        return {"command": command, "usd_per_million_reads": {"low": 0.0, "high": 0.0}, "what": _IN_A_FOLDER}
    kind = {"s3": "aws", "gs": "gcp", "az": "azure"}.get(where.scheme, provider)
    bucket = where.bucket or "BUCKET"
    endpoint = f" --endpoint-url {shlex.quote(where.endpoint)}" if where.endpoint else ""
    logs = f"{bucket}-logs" if where.bucket else "LOGS"
    command = _SWITCH.get(kind, _SWITCH["aws"]).format(bucket=shlex.quote(bucket), logs=logs, endpoint=endpoint)
    return {"command": command, "usd_per_million_reads": {"low": low, "high": high}, "what": _KEPT}


def _only_bucket(source: Source) -> str:
    """Return the bucket of all that an inventory lists; "" where there are several or none."""
    if source.listed is None or source.names is None:
        return ""
    names = {source.names[number].partition("/")[0] for number in source.listed.obj.tolist()}
    return next(iter(names)) if len(names) == 1 else ""


def _folders(source: Source, book: PriceBook, provider: str) -> tuple[list[AdoptedRow], tuple[str, ...]]:
    listed, names = source.listed, source.names
    if listed is None or names is None:
        raise BadInputError("the inventory lists no object", hint="give the manifest, or the file that lists objects")
    hot = book.classes(provider)[0]
    classes = source.storage_class[listed.obj]
    keys = [folder(names[number]) for number in listed.obj.tolist()]
    folders, number = np.unique(np.array(keys, dtype=object), return_inverse=True)
    group = number * (len(source.classes) + 1) + classes + 1
    found = []
    for number in np.unique(group):
        chosen = group == number
        size, of = listed.size[chosen], int(number) % (len(source.classes) + 1) - 1
        small = size < SMALL_BYTES
        name = source.classes[of] if of >= 0 else hot
        found.append(
            AdoptedRow(
                STORE,
                name,
                str(folders[int(number) // (len(source.classes) + 1)]),
                len(size),
                int(size.sum()),
                int(small.sum()),
                int(size[small].sum()),
            )
        )
    missing = int((classes < 0).sum())
    assumed = (f"{missing:,} objects without a class in the inventory are taken to be in {hot}",) if missing else ()
    return found, assumed


@dataclass(frozen=True, slots=True)
class DoNothing:
    """The bill of a past in which everything stays where it lies; ``moves`` name classes of ``tariff``."""

    lines: dict[str, float]
    expected: tuple[Expected, ...]
    moves: Moves
    tariff: Tariff


def do_nothing(trace: Trace, tariff: Tariff, source: Source, book: PriceBook, provider: str) -> DoNothing:
    """Bill a past in which every object stays in the class that the inventory states, the hot one where none does.

    A class that is not compared is billed at the sheet's price all the same.

    Raises:
        ConfigError: the inventory has a class without a price.
    """
    there = {source.classes[number] for number in np.unique(source.storage_class) if number >= 0}
    if missing := there - set(tariff.names):
        tariff = tariff_of(book, provider, [*tariff.names, *sorted(missing)])
    to = present(trace, tariff, source)
    moves = held(trace, to)
    found = bill(trace, tariff, moves)
    return DoNothing(found.by_line, tuple(_expected(trace, tariff, to, found.lines)), moves, tariff)


def present(trace: Trace, tariff: Tariff, source: Source, *, left: Collection[str] = ()) -> NDArray[np.int64]:
    """Return the class of each life that the inventory states, the hot one where none does.

    Args:
        left: classes that the caller leaves as they are; the hot one stands for them.

    Raises:
        BadInputError: the inventory has a class that is not among the tariff's.
    """
    if not source.classes:
        return np.zeros(trace.lives, np.int64)
    stated = [tariff.names[0] if name in left else name for name in source.classes]
    known = np.array([tariff.names.index(name) if name in tariff.names else -1 for name in stated], np.int64)
    numbers = source.storage_class[trace.obj]
    to = np.where(numbers >= 0, known[np.maximum(numbers, 0)], 0)
    if (to < 0).any():
        lacking = sorted({source.classes[number] for number in numbers[to < 0].tolist()})
        raise BadInputError(
            "the inventory has classes that are not compared",
            classes=", ".join(lacking),
            hint="name them with --classes, and their prices with --prices",
        )
    return to


def invoice_document(
    invoice: Invoice, nothing: DoNothing, book: PriceBook, provider: str, rates: Path | None = None
) -> dict[str, Any]:
    """Return the do-nothing bill beside an invoice, and save the rates that were really billed.

    Args:
        rates: where they are saved; None: nowhere.
    """
    beside = beside_invoice(nothing, invoice)
    sheet: dict[tuple[str, ...], float] = {
        ("tiers", name, field): float(getattr(tier, field))
        for name, tier in book.sheet(provider).tiers.items()
        for field in _RATES
    }
    recovered = calibrate(invoice, listed=sheet, expected=nothing.expected)
    if recovered and rates is not None:
        saved = save_rates(recovered, provider, rates, classes=book.classes(provider))
        beside["rates"] = [
            {"path": ".".join(rate.path), "usd": rate.usd, "listed": rate.listed, "discount": rate.discount}
            for rate in saved
        ]
        beside["rates_file"] = str(rates)
    return beside


def month_beside_invoice(
    source: Source, invoice: Invoice, book: PriceBook, provider: str, rates: Path | None = None
) -> dict[str, Any]:
    """Return what an inventory's objects cost to keep for as long as an invoice covers, beside that invoice.

    Without accesses only storage can be compared: every other line of the invoice stands alone.
    """
    days = max(1, round(invoice.days)) if np.isfinite(invoice.days) else int(DAYS_PER_MONTH)
    trace = source.trace(horizon_days=days)
    nothing = do_nothing(trace, tariff_of(book, provider, book.classes(provider)), source, book, provider)
    return invoice_document(invoice, nothing, book, provider, rates) | {"days": days}


def _expected(trace: Trace, tariff: Tariff, to: NDArray[np.int64], lines: NDArray[np.float64]) -> list[Expected]:
    life = np.repeat(np.arange(trace.lives), np.diff(trace.first))
    kept = np.maximum(trace.size, tariff.min_bytes[to]) / GIB * (trace.end - trace.birth) / DAYS_PER_MONTH
    found: list[Expected] = []
    for c, name in enumerate(tariff.names):
        chosen, rows = to == c, to[life] == c
        quantity = {
            "storage": float(kept[chosen].sum()),
            "requests": float(trace.reads[rows].sum()),
            "retrieval": float(trace.bytes[rows].sum()) / GIB if tariff.retrieval[c] > 0 else 0.0,
            "transition": float(trace.begun_by_put[chosen].sum()),
            "minimum_duration": 0.0,
            "monitoring": 0.0,
        }
        usd = lines[chosen].sum(axis=0)
        found += [Expected(line, name, quantity[line], float(usd[at])) for at, line in enumerate(LINES) if usd[at] > 0]
    return found


def beside_invoice(nothing: DoNothing, invoice: Invoice) -> dict[str, Any]:
    """Return the do-nothing bill beside an invoice, the largest difference first."""
    differences: Sequence[Difference] = compare_bills(nothing.expected, invoice)
    return {
        "do_nothing": {"total": sum(nothing.lines.values()), "lines": nothing.lines},
        "invoice": {
            "total": invoice.usd,
            "currency": invoice.currency,
            "days": invoice.days if np.isfinite(invoice.days) else None,
            "taxes": invoice.taxes,
            "credits": invoice.credits,
            "other_services": invoice.other_services,
        },
        "differences": [
            {
                "line": found.line,
                "class": found.storage_class,
                "replay_usd": found.replay_usd,
                "invoice_usd": found.invoice_usd,
                "cause": found.cause,
            }
            for found in differences
        ],
    }
