"""``replay`` with an invoice, and with files that are wrong: a difference is named, rubbish is never a wrong total."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fabric.pricing.sheet import PriceBook
from tests.command_line import answer, printed, refused

GIB = 1 << 30
DAYS = 30
DISCOUNT = {"storage": 0.2, "requests": 0.1, "retrieval": 0.3}
SIZE = 400_000_000
# class of the sheet and of the inventory; usage types of storage, GET, retrieval; reads a day of its one object
CLASSES = (
    ("standard", "STANDARD", "TimedStorage-ByteHrs", "Requests-Tier2", "", 7),
    ("standard_ia", "STANDARD_IA", "TimedStorage-SIA-ByteHrs", "Requests-SIA-Tier2", "Retrieval-SIA", 2),
    ("glacier_flexible", "GLACIER", "TimedStorage-GlacierByteHrs", "", "", 0),
)
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
CUR = [f"lineItem/{name}" for name in ("LineItemType", "ProductCode", "UsageType", "Operation", "UsageStartDate")]
CUR += ["lineItem/UsageEndDate", "lineItem/UsageAmount", "pricing/unit", "lineItem/UnblendedCost"]
CUR += ["lineItem/CurrencyCode"]
FOCUS = ["ChargeCategory", "ServiceName", "x_UsageType", "x_Operation", "ChargePeriodStart", "ChargePeriodEnd"]
FOCUS += ["ConsumedQuantity", "ConsumedUnit", "BilledCost", "BillingCurrency"]


def line(at: dt.datetime, key: str, *, size: int = SIZE, stated: object = None, moved: object = None) -> str:
    """Return a line of an S3 access log."""
    return (
        f"owner b [{at:%d/%b/%Y:%H:%M:%S %z}] 192.0.2.3 arn:aws:iam::1:user/a {abs(hash((at, key))):016X} "
        f'REST.GET.OBJECT {key} "GET /{key} HTTP/1.1" 200 - {size if moved is None else moved} '
        f'{size if stated is None else stated} 12 10 "-" "x" -\n'
    )


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A month's log and the inventory of its objects, one in each class."""
    folder = tmp_path_factory.mktemp("past")
    lines, rows = [], ["Bucket,Key,Size,StorageClass"]
    for name, listed, *_, often in CLASSES:
        rows.append(f"b,x/{name}.bin,{SIZE},{listed}")
        for day in range(DAYS):
            at = START + dt.timedelta(days=day)
            lines += [line(at + dt.timedelta(minutes=n), f"x/{name}.bin") for n in range(often)]
    (folder / "access.log").write_text("".join(lines))
    (folder / "inventory.csv").write_text("\n".join(rows) + "\n")
    return folder


def charges() -> list[list[Any]]:
    """Return the month as it is billed with hidden discounts: quantities by hand, a line a day."""
    book, rows = PriceBook.load(), []
    for name, _, storage, get, retrieval, often in CLASSES:
        tier = book.price("aws", name).tier
        day = [(storage, "storage", SIZE / GIB / DAYS, "GB-Mo", tier.storage_per_gb_month)]
        day += [(get, "requests", float(often), "Requests", tier.get_per_1k / 1000)] if get else []
        day += [(retrieval, "retrieval", often * SIZE / GIB, "GB", tier.retrieval_per_gb)] if retrieval else []
        for number in range(DAYS):
            span = [f"{START + dt.timedelta(days=number + n):%Y-%m-%dT%H:%M:%SZ}" for n in (0, 1)]
            for usage, kind, many, unit, rate in day:
                billed = many * rate * (1 - DISCOUNT[kind])
                rows.append(["Usage", "AmazonS3", usage, "GetObject", *span, many, unit, billed, "USD"])
    return rows


def invoice(folder: Path, form: str) -> Path:
    with (folder / f"{form}.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(CUR if form == "cur" else FOCUS)
        for row in charges():
            out.writerow([row[0], "Amazon Simple Storage Service", *row[2:]] if form == "focus" else row)
    return folder / f"{form}.csv"


@pytest.mark.parametrize("form", ["cur", "focus"])
def test_each_line_stands_beside_the_invoices_with_its_cause_and_the_rates_are_used_next_time(
    past: Path, tmp_path: Path, form: str
) -> None:
    bill = invoice(tmp_path, form)
    given = [
        "replay",
        "--accesses",
        past / "access.log",
        "--inventory",
        past / "inventory.csv",
        "--policies",
        "all_hot",
    ]
    first = answer(past, *given, "--bill", bill)["bill"]
    assert {(row["line"], row["class"]) for row in first["differences"]} == {
        *(("storage", name) for name, *_ in CLASSES),
        ("requests", "standard"),
        ("requests", "standard_ia"),
        ("retrieval", "standard_ia"),
    }
    for row in first["differences"]:
        assert row["cause"] == f"the invoice's rate is {DISCOUNT[row['line']]:.1%} lower"
        assert row["invoice_usd"] == pytest.approx(row["replay_usd"] * (1 - DISCOUNT[row["line"]]), rel=1e-6)
    assert all(rate["discount"] == pytest.approx(DISCOUNT[_line_of(rate["path"])], abs=1e-6) for rate in first["rates"])
    again = answer(past, *given, "--bill", bill, "--prices", first["rates_file"])["bill"]
    assert again["do_nothing"]["total"] == pytest.approx(again["invoice"]["total"], rel=1e-6)
    assert {row["cause"] for row in again["differences"]} == {"equal within 1 %"}


def _line_of(path: str) -> str:
    return {"storage_per_gb_month": "storage", "get_per_1k": "requests"}.get(path.rsplit(".", 1)[1], "retrieval")


def test_an_inventory_alone_beside_an_invoice_compares_what_keeping_the_objects_cost(
    past: Path, tmp_path: Path
) -> None:
    bill = invoice(tmp_path, "cur")
    found = answer(past, "replay", "--inventory", past / "inventory.csv", "--bill", bill)
    beside = {(row["line"], row["class"]): row for row in found["bill_beside"]["differences"]}
    for name, *_ in CLASSES:
        assert beside["storage", name]["cause"] == "the invoice's rate is 20.0% lower"
    assert "only on the invoice" in beside["requests", "standard"]["cause"]
    said = printed(past, "replay", "--inventory", past / "inventory.csv", "--bill", bill)
    assert f"--prices {bill}.rates.toml" in said
    assert Path(f"{bill}.rates.toml").exists()


def test_an_inventory_alone_names_the_bucket_in_the_command_and_the_price_of_the_log(past: Path) -> None:
    found = answer(past, "replay", "--inventory", past / "inventory.csv")
    assert "--bucket b --bucket-logging-status" in found["logging"]["command"]
    assert found["total"]["usd"] == pytest.approx(sum(row["usd"] for row in found["bill"]))
    said = printed(past, "replay", "--inventory", past / "inventory.csv")
    assert "a month and million reads" in said
    assert "pays while less than" in said


# ---------------------------------------------------------------- rubbish


def replayed(folder: Path, *words: object) -> Any:
    return answer(folder, "replay", "--policies", "all_hot", *words)


def test_columns_that_nobody_knows_are_named_with_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("colour,taste\nred,sweet\n")
    for option in ("--accesses", "--inventory", "--bill"):
        more = [] if option != "--bill" else ["--accesses", tmp_path / "odd.csv"]
        said = refused(tmp_path, "replay", option, tmp_path / "odd.csv", *more)
        assert "colour, taste" in said
        assert "CUR and FOCUS" in said


def test_a_column_too_many_changes_nothing(tmp_path: Path) -> None:
    columns = {"t": [0, 86_400], "obj": [1, 1], "size": [GIB, GIB], "op": [0, 1], "n": [1, 1], "bytes": [0, GIB]}
    pq.write_table(pa.table(columns), tmp_path / "plain.parquet")
    pq.write_table(pa.table(columns | {"colour": [1, 2]}), tmp_path / "more.parquet")
    bills = [replayed(tmp_path, "--accesses", tmp_path / f"{name}.parquet")["policies"] for name in ("plain", "more")]
    assert bills[0] == bills[1]


def test_times_of_several_zones_are_one_time_and_it_is_said(tmp_path: Path) -> None:
    zone = dt.timezone(dt.timedelta(hours=14))
    late = START + dt.timedelta(hours=23)
    (tmp_path / "zones.log").write_text(line(START, "k") + line(late.astimezone(zone), "k"))
    found = replayed(tmp_path, "--accesses", tmp_path / "zones.log")
    assert found["trace"]["days"] == 1
    assert any("several time zones" in sentence for sentence in found["assumptions"])


def test_negative_sizes_of_a_log_are_rejected_counted_and_shown(tmp_path: Path) -> None:
    lines = [line(START, "k"), line(START, "k2", stated=-5), line(START, "k3", moved=-7)]
    (tmp_path / "negative.log").write_text("".join(lines))
    found = replayed(tmp_path, "--accesses", tmp_path / "negative.log")
    assert found["import"]["rejected"] == {"a size is negative": 2}
    assert found["trace"]["lives"] == 1
    said = printed(tmp_path, "replay", "--policies", "all_hot", "--accesses", tmp_path / "negative.log")
    assert "Rejected lines: 2, because a size is negative; first in negative.log" in said


def test_a_negative_size_in_an_inventory_is_refused_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "negative.csv").write_text("Bucket,Key,Size\nb,good,1\nb,the bad one,-1\n")
    assert "the bad one" in refused(tmp_path, "replay", "--inventory", tmp_path / "negative.csv")


@pytest.mark.parametrize("option", ["--accesses", "--inventory", "--bill"])
def test_a_truncated_gzip_is_refused_by_name(past: Path, tmp_path: Path, option: str) -> None:
    whole = {"--accesses": past / "access.log", "--inventory": past / "inventory.csv", "--bill": invoice(past, "cur")}
    file = tmp_path / f"cut{whole[option].suffix}.gz"
    file.write_bytes(gzip.compress(whole[option].read_bytes())[:-20])
    more = ["--accesses", past / "access.log"] if option == "--bill" else []
    assert "is cut off" in refused(tmp_path, "replay", option, file, *more)
    assert file.name in refused(tmp_path, "replay", option, file, *more)


def test_keys_with_quotes_spaces_and_raw_bytes_come_back_in_the_decisions(tmp_path: Path) -> None:
    keys = ["a%2520b/%2522q%2522%252C%2527.bin", "caf%25E9.bin", "plain"]  # encoded twice, as S3 writes them
    (tmp_path / "hard.log").write_text("".join(line(START, key) for key in keys))
    found = replayed(tmp_path, "--accesses", tmp_path / "hard.log", "--decisions", tmp_path / "moves.csv")
    assert found["trace"]["lives"] == 3
    with (tmp_path / "moves.csv").open(newline="") as file:
        assert {row["obj"] for row in csv.DictReader(file)} == {'b/a b/"q",\'.bin', r"b/caf\xe9.bin", "b/plain"}


def test_sizes_without_an_inventory_are_inferred_and_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(line(START, "k", size=5 * GIB, stated="-"))
    found = replayed(tmp_path, "--accesses", tmp_path / "a.log")
    assert any("sized by their largest whole read" in sentence for sentence in found["assumptions"])
    rate = PriceBook.load().price("aws", "standard").tier.storage_per_gb_month
    assert found["policies"]["all_hot"]["lines"]["storage"] == pytest.approx(5 * rate / DAYS)


def test_a_class_without_a_price_is_named_and_in_no_total(past: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text(
        f"Bucket,Key,Size,StorageClass\nb,x/standard.bin,{GIB},OUTPOSTS\nb,z,5,STANDARD\n"
    )
    alone = answer(tmp_path, "replay", "--inventory", tmp_path / "odd.csv")
    assert alone["not_priced"] == ["outposts"]
    assert any("1 objects are in no sum" in sentence for sentence in alone["assumptions"])
    log = ["--accesses", past / "access.log", "--inventory", tmp_path / "odd.csv"]
    assert "storage_class=outposts" in refused(tmp_path, "replay", *log, "--bill", invoice(past, "cur"))
    assert "lukewarm" in refused(tmp_path, "replay", *log, "--classes", "standard,lukewarm")
    (tmp_path / "half.toml").write_text("[aws.tiers.lukewarm]\nget_per_1k = 1\n")
    assert "storage_per_gb_month" in refused(tmp_path, "replay", *log, "--prices", tmp_path / "half.toml")


def test_an_invoice_alone_says_what_is_missing(past: Path) -> None:
    assert "--accesses FILE" in refused(past, "replay", "--bill", invoice(past, "cur"))
