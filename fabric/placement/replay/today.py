"""Without a past: what an inventory costs today, when each class would pay, and how to have the reads logged.

With an invoice: the do-nothing bill of the replay beside it, line by line, and the rates it was really billed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.core.units import DAYS_PER_MONTH, GIB
from fabric.formats.invoice import Invoice
from fabric.formats.rates import Difference, Expected, compare_bills
from fabric.placement.bill import SMALL_BYTES, bill_rows, class_rows, unpriced
from fabric.placement.ports import AdoptedRow
from fabric.placement.replay.billing import LINES, bill
from fabric.placement.replay.moves import Moves, held
from fabric.placement.replay.sources import Source
from fabric.placement.replay.tariff import Tariff
from fabric.placement.replay.trace import Trace
from fabric.placement.showback import folder
from fabric.pricing.sheet import PriceBook, Site

STORE = "inventory"
LOG_LINE_BYTES = (300, 1000)  # of one access in a log, least and most
READS = 1_000_000  # that the price of logging is stated for
_SWITCH = {
    "aws": "aws s3api put-bucket-logging --bucket BUCKET --bucket-logging-status "
    '\'{"LoggingEnabled":{"TargetBucket":"LOGS","TargetPrefix":"BUCKET/"}}\'',
    "gcp": "gcloud storage buckets update gs://BUCKET --log-bucket=gs://LOGS --log-object-prefix=BUCKET",
    "azure": "az storage account blob-service-properties update --account-name ACCOUNT "
    "--resource-group GROUP --enable-last-access-tracking true",
}


def inventory_document(source: Source, book: PriceBook, provider: str) -> dict[str, Any]:
    """Return today's storage bill of an inventory and the break-evens of every class, per class and top folder.

    Reads are not known, so no class is given a saving: it pays while an object is read less often than a rate, which
    is given for the worst and the best case (`placement.bill`).
    """
    rows, assumed = _folders(source, book, provider)
    site = {STORE: Site(provider)}
    known = [row for row in rows if row not in unpriced(rows, site, book)]
    return {
        "bill": [msgspec.to_builtins(row) for row in bill_rows(known, site, book)],
        "break_evens": [msgspec.to_builtins(row) for row in class_rows(known, site, book)],
        "not_priced": sorted({row.storage_class for row in rows if row not in known}),
        "logging": logging_advice(book, provider),
        "provider": provider,
        "assumptions": [*source.assumed, *assumed],
        **source.told,
    }


def logging_advice(book: PriceBook, provider: str) -> dict[str, Any]:
    """Return the command that has reads logged, and what keeping the log of a million reads costs a month."""
    hot = book.price(provider, book.classes(provider)[0]).tier.storage_per_gb_month
    low, high = (READS * size / GIB * hot for size in LOG_LINE_BYTES)
    return {
        "command": _SWITCH[provider],
        "usd_per_million_reads": {"low": low, "high": high},
        "what": "storage of the log for one month; delivery itself is not billed",
    }


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
    """The bill of a past in which everything stays where it lies."""

    lines: dict[str, float]
    expected: tuple[Expected, ...]
    moves: Moves


def do_nothing(trace: Trace, tariff: Tariff, source: Source) -> DoNothing:
    """Bill a past in which every object stays in the class that the inventory states, the hot one where none does.

    Raises:
        BadInputError: the inventory has a class that is not among those compared.
    """
    to = present(trace, tariff, source)
    moves = held(trace, to)
    found = bill(trace, tariff, moves)
    return DoNothing(found.by_line, tuple(_expected(trace, tariff, to, found.lines)), moves)


def present(trace: Trace, tariff: Tariff, source: Source) -> NDArray[np.int64]:
    """Return the class of each life that the inventory states, the hot one where none does; BadInputError as above."""
    if not source.classes:
        return np.zeros(trace.lives, np.int64)
    known = np.array([tariff.names.index(name) if name in tariff.names else -1 for name in source.classes], np.int64)
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
