"""Invoices: lines get their kind and class, a replay's bill is laid beside them, hidden discounts are recovered."""

from __future__ import annotations

import csv
import gzip
import io
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fabric.core.errors import BadInputError
from fabric.formats.invoice import Invoice, bill_mapping, read_invoice, unit_factor
from fabric.formats.rates import Expected, Rate, calibrate, compare_bills, save_rates
from fabric.pricing.sheet import PriceBook

PRICES = PriceBook.load()
CUR = ["lineItem/LineItemType", "lineItem/ProductCode", "lineItem/UsageType", "lineItem/Operation",
       "lineItem/UsageStartDate", "lineItem/UsageEndDate", "lineItem/UsageAmount", "pricing/unit",
       "lineItem/UnblendedCost", "lineItem/CurrencyCode"]  # fmt: skip
# kind, class, usage type, operation, unit, field, per: what a month of three classes is billed as
LINES = [
    ("storage", "standard", "TimedStorage-ByteHrs", "StandardStorage", "GB-Mo", "storage_per_gb_month", 1),
    ("storage", "standard_ia", "TimedStorage-SIA-ByteHrs", "StandardIAStorage", "GB-Mo", "storage_per_gb_month", 1),
    ("storage", "glacier_instant", "TimedStorage-GIR-ByteHrs", "GIRStorage", "GB-Mo", "storage_per_gb_month", 1),
    ("get", "standard", "Requests-Tier2", "GetObject", "Requests", "get_per_1k", 1000),
    ("get", "standard_ia", "Requests-SIA-Tier2", "GetObject", "Requests", "get_per_1k", 1000),
    ("put", "standard", "Requests-Tier1", "PutObject", "Requests", "put_per_1k", 1000),
    ("transition", "standard_ia", "Requests-Tier4", "S3-SIATransition", "Requests", "transition_in_per_1k", 1000),
    ("retrieval", "standard_ia", "Retrieval-SIA", "GetObject", "GB", "retrieval_per_gb", 1),
    ("retrieval", "glacier_instant", "Retrieval-GIR", "GetObject", "GB", "retrieval_per_gb", 1),
]
DISCOUNT = {"storage": 0.17, "get": 0.05, "put": 0.05, "transition": 0.0, "retrieval": 0.31}


def replayed_days(seed: int = 1, days: int = 31) -> list[tuple[tuple[str, ...], int, float, float]]:
    """Return (line, day, quantity, billed USD) of each line and day, discounted and rounded as invoices do."""
    rng = np.random.default_rng(seed)
    found = []
    for line in LINES:
        kind, tier, *_, field, per = line
        rate = getattr(PRICES.price("aws", tier).tier, field) * (1 - DISCOUNT[kind])
        for day in range(days):
            quantity = float(rng.gamma(4.0, 1000.0 / 4))
            if per == 1000:
                quantity = float(round(quantity * 100))
            found.append((line, day, quantity, round(quantity / per * rate, 10)))
    return found


def cur_text(rows: list[list[object]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([CUR, *rows])
    return out.getvalue()


def cur_rows(region: str = "EUC1-") -> list[list[object]]:
    rows: list[list[object]] = []
    for (_, _, usage, operation, unit, _, _), day, quantity, usd in replayed_days():
        stamp = f"2026-10-{day + 1:02d}T00:00:00Z"
        end = f"2026-10-{day + 2:02d}T00:00:00Z" if day < 30 else "2026-11-01T00:00:00Z"
        rows.append(["Usage", "AmazonS3", region + usage, operation, stamp, end, quantity, unit, usd, "USD"])
    rows.append(["Tax", "AmazonS3", "", "", "", "", 1, "", 12.5, "USD"])
    rows.append(["Credit", "AmazonS3", "", "", "", "", 1, "", -3.0, "USD"])
    month = ["2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"]
    rows.append(["Usage", "AmazonEC2", "BoxUsage:m5", "RunInstances", *month, 700, "Hrs", 70, "USD"])
    rows.append(["Usage", "AmazonS3", "EUC1-TagStorage-TagHrs", "", *month, 9, "Tag-Hrs", 0.5, "USD"])
    return rows


FOCUS = ["ProviderName", "ServiceName", "ChargeCategory", "x_UsageType", "x_Operation", "ChargePeriodStart",
         "ChargePeriodEnd", "ConsumedQuantity", "ConsumedUnit", "BilledCost", "BillingCurrency"]  # fmt: skip


def write_focus(path: Path) -> Path:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(FOCUS)
        for row in cur_rows(region=""):
            service = {"AmazonS3": "Amazon Simple Storage Service"}.get(str(row[1]), str(row[1]))
            out.writerow(["AWS", service, row[0], *row[2:8], row[8], row[9]])
    return path


def write_cur(path: Path, form: str) -> Path:
    if form == "csv":
        path.write_text(cur_text(cur_rows()))
    elif form == "gz":
        path.write_bytes(gzip.compress(cur_text(cur_rows()).encode()))
    else:
        names = ["line_item_line_item_type", "line_item_product_code", "line_item_usage_type", "line_item_operation",
                 "line_item_usage_start_date", "line_item_usage_end_date", "line_item_usage_amount", "pricing_unit",
                 "line_item_unblended_cost", "line_item_currency_code"]  # fmt: skip
        columns = list(zip(*cur_rows(), strict=True))
        table = {n: [float(v) for v in c] if n.endswith(("amount", "cost")) else [str(v) for v in c]
                 for n, c in zip(names, columns, strict=True)}  # fmt: skip
        pq.write_table(pa.table(table), path)
    return path


def listed_rates() -> dict[tuple[str, ...], float]:
    fields = ("storage_per_gb_month", "get_per_1k", "put_per_1k", "transition_in_per_1k", "retrieval_per_gb")
    sheet = PRICES.sheet("aws")
    return {("tiers", name, field): getattr(tier, field) for name, tier in sheet.tiers.items() for field in fields}


@pytest.mark.parametrize("form", ["csv", "gz", "parquet", "focus"])
def test_hidden_discounts_are_recovered_and_a_price_book_reads_them(tmp_path: Path, form: str) -> None:
    path = tmp_path / "bill"
    invoice = read_invoice([write_focus(path) if form == "focus" else write_cur(path, form)])
    rates = calibrate(invoice, listed=listed_rates())
    save_rates(rates, "aws", tmp_path / "prices.toml", classes=PRICES.classes("aws"))
    book = PriceBook.load(tmp_path / "prices.toml")
    for kind, tier, *_, field, _ in LINES:
        hidden = getattr(PRICES.price("aws", tier).tier, field) * (1 - DISCOUNT[kind])
        assert getattr(book.price("aws", tier).tier, field) == pytest.approx(hidden, rel=0.01)
    found = {rate.path: rate.discount for rate in rates}
    assert found["tiers", "standard_ia", "retrieval_per_gb"] == pytest.approx(0.31, abs=0.001)
    assert book.price("aws", "glacier_deep") == PRICES.price("aws", "glacier_deep")


def test_what_is_no_storage_of_objects_is_named_apart(tmp_path: Path) -> None:
    invoice = read_invoice([write_cur(tmp_path / "bill", "csv")])
    assert (invoice.taxes, invoice.credits, invoice.other_services) == (12.5, -3.0, 70.0)
    assert (invoice.provider, invoice.currency, invoice.days) == ("aws", "USD", 31.0)
    assert [charge.usage_type for charge in invoice.charges if charge.kind == "other"] == ["EUC1-TagStorage-TagHrs"]
    assert invoice.usd == pytest.approx(sum(usd for *_, usd in replayed_days()) + 0.5)
    assert "the unit 'Tag-Hrs' is not known" in invoice.account.assumptions[0]


def expected_lines(scale: float = 1.0) -> list[Expected]:
    line_of = {"get": "requests", "put": "transition"}
    found = []
    for (kind, tier, *_, field, per), _, quantity, _ in replayed_days():
        usd = quantity / per * getattr(PRICES.price("aws", tier).tier, field) * scale
        found.append(Expected(line_of.get(kind, kind), tier, quantity * scale, usd))
    return found


def test_the_replays_bill_stands_beside_the_invoice_with_the_cause_of_each_difference(tmp_path: Path) -> None:
    invoice = read_invoice([write_cur(tmp_path / "bill", "csv")])
    found = {
        (d.line, d.storage_class): d
        for d in compare_bills([*expected_lines(), Expected("monitoring", "x", 1, 1)], invoice)
    }
    storage = found["storage", "standard"]
    assert storage.cause == "the invoice's rate is 17.0% lower; it spans 31 days and a replay's month has 30"
    assert storage.by_price == pytest.approx((storage.invoice_usd or 0) - (storage.replay_usd or 0))
    assert found["transition", "standard_ia"].cause == "equal within 1 %"
    assert found["monitoring", "x"].cause == "not on the invoice"
    assert found["other", "EUC1-TagStorage-TagHrs"].cause == "only on the invoice: the replay does not bill it"
    more = {(d.line, d.storage_class): d for d in compare_bills(expected_lines(0.8), invoice)}
    assert more["requests", "standard"].cause == "the invoice's rate is 5.0% lower; the invoice counts 25.0% more"


def small_cur(tmp_path: Path, rows: list[list[object]]) -> Invoice:
    (tmp_path / "small.csv").write_text(cur_text(rows))
    return read_invoice([tmp_path / "small.csv"])


def line(
    usage: str, quantity: object, usd: float, *, kind: str = "Usage", unit: str = "GB-Mo", operation: str = ""
) -> list[object]:
    return [
        kind,
        "AmazonS3",
        usage,
        operation,
        "2026-10-01T00:00:00Z",
        "2026-10-02T00:00:00Z",
        quantity,
        unit,
        usd,
        "USD",
    ]


def test_a_discount_that_is_a_line_of_its_own_lowers_the_rate(tmp_path: Path) -> None:
    rows = [line("TimedStorage-ByteHrs", 100, 2.3), line("TimedStorage-ByteHrs", 300, 6.9)]
    rows.append(line("TimedStorage-ByteHrs", 400, -0.92, kind="EdpDiscount"))
    (rate,) = calibrate(small_cur(tmp_path, rows))
    assert rate == Rate(("tiers", "standard", "storage_per_gb_month"), pytest.approx(0.0207), 2, None)


def test_lines_without_a_quantity_are_divided_by_the_replays(tmp_path: Path) -> None:
    invoice = small_cur(tmp_path, [line("Requests-Tier2", "", 0.4, unit="")])
    assert calibrate(invoice) == ()
    (rate,) = calibrate(invoice, expected=[Expected("requests", "standard", 2_000_000, 0.8)])
    assert rate.usd == pytest.approx(0.0002)


def test_managed_tiers_and_transfer_have_their_places_in_the_price_file(tmp_path: Path) -> None:
    rows = [
        line("TimedStorage-INT-FA-ByteHrs", 10, 0.2), line("Monitoring-Automation-INT", 4000, 0.008, unit="Objects"),
        line("DataTransfer-Out-Bytes", 10, 0.5, unit="GB"), line("USE1-USE2-AWS-Out-Bytes", 10, 0.1, unit="GB"),
        line("TimedStorage-ZIA-ByteHrs", 10, 0.1), line("Requests-ZIA-Tier1", 10, 0.1, unit="Requests"),
    ]  # fmt: skip
    save_rates(calibrate(small_cur(tmp_path, rows)), "aws", tmp_path / "p.toml", classes=PRICES.classes("aws"))
    sheet = PriceBook.load(tmp_path / "p.toml").sheet("aws")
    assert sheet.managed["intelligent_tiering"]["frequent_per_gb_month"] == pytest.approx(0.02)
    assert sheet.managed["intelligent_tiering"]["monitoring_per_1k_objects_month"] == pytest.approx(0.002)
    assert sheet.managed["intelligent_tiering"]["infrequent_per_gb_month"] == 0.0125  # as it was
    assert (sheet.egress_internet_per_gb, sheet.egress_inter_region_per_gb) == (
        pytest.approx(0.05),
        pytest.approx(0.01),
    )
    assert sheet.tiers["onezone_ia"].storage_per_gb_month == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("usage", "operation", "expected"),
    [
        ("EU-TimedStorage-GlacierByteHrs", "", ("storage", "glacier_flexible")),
        ("APN1-EarlyDelete-GIR-SmObjects", "", ("minimum_duration", "glacier_instant")),
        ("EarlyDelete-ByteHrs", "", ("minimum_duration", "glacier_flexible")),
        ("Requests-Tier3", "S3-GDATransition", ("transition", "glacier_deep")),
        ("Requests-Tier4", "S3-INTTransition", ("transition", "intelligent_tiering")),
        ("USW2-Requests-GLACIER-Tier1", "", ("put", "glacier_flexible")),
        ("DataTransfer-In-Bytes", "", ("transfer_free", "")),
        ("EU-Tables-TimedStorage-ByteHrs", "", ("other", "")),
        ("Tables-Requests-Tier1", "", ("other", "")),
    ],
)
def test_usage_types_of_aws_say_their_kind_and_class(usage: str, operation: str, expected: tuple[str, str]) -> None:
    assert bill_mapping("aws").kind_of(usage, operation) == expected


@pytest.mark.parametrize(
    ("provider", "usage", "expected"),
    [
        ("azure", "Hot LRS Data Stored", ("storage", "hot")),
        ("azure", "Cool Data Retrieval", ("retrieval", "cool")),
        ("azure", "Archive GRS Early Delete", ("minimum_duration", "archive")),
        ("azure", "Hot LRS Write Operations", ("put", "hot")),
        ("azure", "Cold Read Operations", ("get", "cold")),
        ("azure", "Standard Data Transfer Out", ("egress_internet", "")),
        ("gcp", "Standard Storage US Regional", ("storage", "standard")),
        ("gcp", "Nearline Storage Iowa", ("storage", "nearline")),
        ("gcp", "Coldline Data Retrieval", ("retrieval", "coldline")),
        ("gcp", "Regional Standard Class A Operations", ("put", "standard")),
        ("gcp", "Archive Class B Operations", ("get", "archive")),
        ("gcp", "Nearline Storage Iowa (Early Deletion)", ("minimum_duration", "nearline")),
        ("gcp", "Download Worldwide Destinations", ("egress_internet", "")),
    ],
)
def test_meters_of_azure_and_google_say_their_kind_and_class(
    provider: str, usage: str, expected: tuple[str, str]
) -> None:
    assert bill_mapping(provider).kind_of(usage, "") == expected


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("GB-Mo", 1), ("10K", 10_000), ("10000", 10_000), ("1 GB/Month", 1), ("100 GB", 100), ("Bytes", 2**-30),
     ("1M", 1e6), ("", 1), ("gibibyte month", 1), ("Tag-Hrs", None), ("1,000 requests", 1000)],
)  # fmt: skip
def test_units_are_read_as_providers_write_them(unit: str, factor: float | None) -> None:
    found = unit_factor(unit)
    assert found == factor if factor is None else found is not None and math.isclose(found, factor)


def test_an_invoice_without_storage_or_of_two_currencies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no line of object storage"):
        small_cur(tmp_path, [["Usage", "AmazonEC2", "Box", "", "", "", 1, "Hrs", 1.0, "USD"]])
    rows = [line("TimedStorage-ByteHrs", 1, 1.0), [*line("TimedStorage-ByteHrs", 1, 1.0)[:-1], "EUR"]]
    with pytest.raises(BadInputError, match="mixes bills"):
        small_cur(tmp_path, rows)


def test_a_log_given_as_an_invoice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("Name,Content-Length\na,1\n")
    with pytest.raises(BadInputError, match="no invoice but: Azure blob inventory"):
        read_invoice([tmp_path / "x.csv"])


def test_nothing_recovered_writes_no_price_file(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no rate could be recovered"):
        save_rates((), "aws", tmp_path / "p.toml", classes=())
    assert not (tmp_path / "p.toml").exists()
