"""``replay --store``: a connected store's last scan as the inventory; no engine runs."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fabric.pricing.sheet import PriceBook
from tests import servers
from tests.command_line import answer, printed, refused

GIB = 1 << 30
DAY = 86_400.0


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that knows a local folder, which was scanned; names hold spaces and quotes."""
    folder, written = tmp_path_factory.mktemp("own"), time.time() - 40 * DAY
    for number in range(30):
        path = folder / "nas" / ("films", "mail it's", 'b"q" ü')[number % 3] / f"a {number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate((number + 1) << 20)
        os.utime(path, (written, written))
    answer(folder, "--store", f"nas={folder / 'nas'}", "scan", "nas")
    return folder


def test_a_scan_alone_gives_todays_bill_and_break_evens_with_best_and_worst_case(nas: Path) -> None:
    found = answer(nas, "replay", "--store", "nas", "--provider", "aws")
    bill = {row["prefix"]: row for row in found["bill"]}
    assert set(bill) == {"nas/films", "nas/mail it's", 'nas/b"q" ü'}
    rate = PriceBook.load().price("aws", "standard").tier.storage_per_gb_month
    sizes = sum((number + 1) << 20 for number in range(30))
    assert found["total"]["usd"] == pytest.approx(sizes / GIB * rate)
    assert found["total"]["low"] <= found["total"]["usd"] <= found["total"]["high"]
    cold = [row for row in found["break_evens"] if row["candidate"] == "standard_ia"]
    assert len(cold) == 3
    assert all(0 < row["pays_below_worst"] < row["pays_below_best"] for row in cold)
    said = " ".join(found["assumptions"])
    assert "30 objects without a class in the inventory are taken to be in standard" in said
    assert "the store nas is one of onprem" in said


def test_a_folder_is_priced_by_its_own_sheet_which_nobody_sends_a_bill_for(nas: Path) -> None:
    found = answer(nas, "replay", "--store", "nas")
    assert {row["storage_class"] for row in found["bill"]} == {"hdd"}
    assert all(row["sunk"] for row in found["bill"])
    assert "nobody sends a bill" in " ".join(found["assumptions"])
    assert found["logging"]["command"].startswith("sudo mount -o remount,strictatime /")
    said = printed(nas, "replay", "--store", "nas")
    assert "prices of onprem" in said
    assert "strictatime" in said


def web_log(folder: Path, days: int = 20) -> Path:
    """Write a web server's log of one file below the folder, read every day."""
    rows = []
    for day in range(days):
        at = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(time.time() - (days - day) * DAY))
        rows.append(f'192.0.2.7 - - [{at}] "GET /films/a%203.bin HTTP/1.1" 200 4194304 "-" "x"\n')
    (folder / "web.log").write_text("".join(rows))
    return folder / "web.log"


def test_beside_a_log_the_scan_gives_sizes_and_days_as_an_inventory_does(nas: Path) -> None:
    log = web_log(nas)
    found = answer(nas, "replay", "--store", "nas", "--accesses", log, "--policies", "all_hot")
    assert found["trace"]["lives"] == 30
    assert found["trace"]["reads"] == 20
    assert found["trace"]["days"] == 40  # written 40 days ago, 20 days before the first read
    assert not any("sized by" in sentence for sentence in found["assumptions"])
    files = [path for path in (nas / "nas").rglob("*") if path.is_file()]
    with (nas / "listed.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Bucket", "Key", "Size", "LastModifiedDate"])
        for path in files:
            written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(path.stat().st_mtime))
            table.writerow([path.parent.name, path.name, path.stat().st_size, written])
    same = answer(nas, "replay", "--inventory", nas / "listed.csv", "--accesses", log, "--policies", "all_hot")
    for line, usd in same["policies"]["all_hot"]["lines"].items():
        assert found["policies"]["all_hot"]["lines"][line] == pytest.approx(usd)


def test_a_store_that_was_never_scanned_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert "python -m fabric --store new=URL scan new" in refused(tmp_path, "replay", "--store", "new")
    assert not (tmp_path / "data").exists()  # asking made no world
    said = refused(tmp_path, "--store", f"new={tmp_path / 'new'}", "replay", "--store", "new")
    assert "never scanned to its end" in said
    assert "python -m fabric scan new" in said


def test_an_unknown_store_and_two_sources_of_what_there_is_are_refused(nas: Path, tmp_path: Path) -> None:
    assert "known are: nas" in refused(nas, "replay", "--store", "nass")
    (tmp_path / "i.csv").write_text("Bucket,Key,Size\nb,k,1\n")
    assert "not both" in refused(nas, "replay", "--store", "nas", "--inventory", tmp_path / "i.csv")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, servers.Server]]:
    """A data folder that knows a bucket below a prefix, in mode look; it was scanned and the server is gone."""
    folder = tmp_path_factory.mktemp("cloud")
    with servers.moto() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        client: Any = servers.client(server)
        for number in range(6):
            kind = ("STANDARD", "STANDARD_IA")[number % 2]
            client.put_object(Bucket=server.bucket, Key=f"raw/2026/{number}.jpg", Body=bytes(1000), StorageClass=kind)
        url = f"s3://{server.bucket}/raw?endpoint={server.endpoint}&provider=aws"
        answer(folder, "--store", f"cloud={url}", "scan", "cloud")
        yield folder, server


def test_a_buckets_scan_is_priced_by_class_and_the_command_names_the_bucket(
    cloud: tuple[Path, servers.Server],
) -> None:
    folder, server = cloud
    found = answer(folder, "replay", "--store", "cloud")
    assert found["provider"] == "aws"
    assert {row["storage_class"]: row["objects"] for row in found["bill"]} == {"standard": 3, "standard_ia": 3}
    command = found["logging"]["command"]
    assert f"put-bucket-logging --endpoint-url {server.endpoint} --bucket {server.bucket} " in command
    assert found["logging"]["usd_per_million_reads"]["high"] > found["logging"]["usd_per_million_reads"]["low"] > 0


def test_a_buckets_own_log_names_the_objects_of_its_scan(cloud: tuple[Path, servers.Server], tmp_path: Path) -> None:
    folder, server = cloud
    at = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    line = (
        f"owner {server.bucket} [{at}] 192.0.2.3 arn:aws:iam::1:user/a 0A1B REST.GET.OBJECT raw/2026/1.jpg "
        f'"GET /raw/2026/1.jpg HTTP/1.1" 200 - 1000 1000 12 10 "-" "x" -\n'
    )
    (tmp_path / "s3.log").write_text(line)
    found = answer(folder, "replay", "--store", "cloud", "--accesses", tmp_path / "s3.log", "--policies", "all_hot")
    assert found["trace"]["lives"] == 6
    assert found["provider"] == "aws"
    assert not any("not in the inventory" in sentence for sentence in found["assumptions"])
