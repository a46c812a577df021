"""A folder and a bucket of one's own, looked at by the real program: what the card says, and what it left alone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import servers
from program import ROOT, Program, program, until

DAY = 86400.0
GIB = float(1 << 30)
SMALL = 131072
AGES = (1, 40, 100, 500)
FOLDERS = ("films/", "mail/2024/", "scans/a/b/", "")
FILES, OBJECTS = 2000, 240
SHEETS = ROOT / "fabric" / "pricing" / "sheets"


@dataclass(frozen=True)
class Own:
    running: Program
    nas: Path
    before: dict[str, tuple[int, int, int]]
    recording: servers.Recording
    bucket: dict[str, tuple[int, str]]  # key -> size, class
    card: dict[str, Any]
    spoke_after: float


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    folder = tmp_path_factory.mktemp("own")
    nas = fill_folder(folder / "nas")
    before = times(nas)
    with servers.moto() as server, servers.recording(server) as recording:
        bucket = fill_bucket(server)
        stores = ["--store", f"nas={nas}", "--store", f"cloud={recording.server.url}&provider=aws"]
        secret = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        began = time.monotonic()
        with program(folder, stores, secret) as running:
            try:
                card = until(lambda: spoken(running), seconds=60, what="the placement card")
            except AssertionError as error:
                raise AssertionError(f"{error}; the engine said:\n{running.log.read_text()[-3000:]}") from error
            yield Own(running, nas, before, recording, bucket, card, time.monotonic() - began)


def fill_folder(nas: Path) -> Path:
    """Make sparse files of mixed ages and folders; times are set last, folders' too."""
    dice, now = random.Random(5), time.time()
    for number in range(FILES):
        path = nas / dice.choice(FOLDERS) / f"file {number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(dice.choice([0, 100, 5_000, 200_000, 5_000_000, 80_000_000]))
        modified = now - dice.choice(AGES) * DAY
        os.utime(path, (modified + 0.5 * DAY, modified))
    return nas


def fill_bucket(server: servers.Server) -> dict[str, tuple[int, str]]:
    dice, client = random.Random(6), servers.client(server)
    made = {}
    for number in range(OBJECTS):
        key = f"{dice.choice(('photos', 'backup/weekly'))}/ä {number}.jpg"
        size, name = dice.choice([10, 3_000, 200_000]), dice.choice(["STANDARD", "STANDARD_IA"])
        client.put_object(Bucket=server.bucket, Key=key, Body=bytes(size), StorageClass=name)
        made[key] = size, name.lower()
    return made


def times(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return mtime, ctime and atime of everything below ``folder``; listing folders may move their atime alone."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        stat = path.stat()
        found[str(path)] = stat.st_mtime_ns, stat.st_ctime_ns, 0 if path.is_dir() else stat.st_atime_ns
    return found


def rows(running: Program, kind: str) -> list[dict[str, Any]]:
    return list(running.get(f"/api/pages/optimization/{kind}?limit=1000")["rows"])


def spoken(running: Program) -> dict[str, Any] | None:
    """Return the card once it has a bill of both stores."""
    card = running.get("/api/status")["optimization"]
    said = f"{FILES + OBJECTS} listed objects"
    return dict(card) if any(said in figure["source"] for figure in card["headline"]) else None


def sizes(own: Own) -> dict[tuple[str, str, str], list[int]]:
    """Return the sizes per store, class and top folder, from the folder and the bucket themselves."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for path in own.nas.rglob("*"):
        if path.is_file():
            inner = str(path.relative_to(own.nas))
            top = inner[: inner.find("/") + 1]
            found.setdefault(("nas", "hdd", top), []).append(path.stat().st_size)
    for key, (size, name) in own.bucket.items():
        found.setdefault(("cloud", name, key[: key.find("/") + 1]), []).append(size)
    return found


def tier(provider: str, name: str) -> dict[str, Any]:
    return dict(tomllib.loads((SHEETS / f"{provider}.toml").read_text())["tiers"][name])


def month(provider: str, name: str, many: list[int]) -> float:
    """Return a month's storage, object by object, from the sheet's file."""
    price = tier(provider, name)
    return sum(max(size, price.get("min_billable_bytes", 0)) for size in many) / GIB * price["storage_per_gb_month"]


PROVIDER = {"nas": "onprem", "cloud": "aws"}


def test_the_card_speaks_within_a_minute_without_any_act(own: Own) -> None:
    assert own.spoke_after < 60
    assert "sample" not in own.running.get("/api/status")["optimization"]["note"]


@pytest.mark.item(14)
def test_todays_bill_equals_the_sum_over_every_object_of_each_store_class_and_folder(own: Own) -> None:
    truth = sizes(own)
    found = {(row["store"], row["storage_class"], row["prefix"]): row for row in rows(own.running, "bill")}
    assert set(found) == set(truth)
    for (store, name, prefix), many in truth.items():
        row, usd = found[store, name, prefix], month(PROVIDER[store], name, many)
        assert (row["objects"], row["size_bytes"]) == (len(many), sum(many))
        assert row["storage_usd"] == pytest.approx(0.0 if store == "nas" else usd)
        assert row["sunk_usd"] == pytest.approx(usd if store == "nas" else 0.0)
    billed = sum(month("aws", name, many) for (store, name, _), many in truth.items() if store == "cloud")
    headline = {figure["label"]: figure for figure in own.card["headline"]}
    assert headline["Monthly bill now"]["value"] == pytest.approx(billed)
    assert f"{FILES + OBJECTS} listed objects" in headline["Monthly bill now"]["source"]


def test_each_other_class_has_its_cost_and_its_break_even(own: Own) -> None:
    truth = sizes(own)
    found = {(r["store"], r["storage_class"], r["prefix"], r["candidate"]): r for r in rows(own.running, "classes")}
    assert {candidate for store, *_, candidate in found if store == "nas"} == {"nvme"}
    for (store, name, prefix, candidate), row in found.items():
        many = truth[store, name, prefix]
        here, there = tier(PROVIDER[store], name), tier(PROVIDER[store], candidate)
        minimum = there.get("min_billable_bytes", 0)
        if minimum in (0, SMALL):  # the least a scan's sums tell exactly
            assert row["usd"] == pytest.approx(month(PROVIDER[store], candidate, many))
        assert row["saving_usd"] == pytest.approx(month(PROVIDER[store], name, many) - row["usd"])
        once = len(many) * there.get("transition_in_per_1k", 0) / 1000
        assert row["transition_usd"] == pytest.approx(once)
        if row["pays_below_worst"] is None:
            continue
        reads = row["pays_below_worst"] * len(many)  # at the break-even both months cost the same
        kept = max(there.get("min_days", 0) / 30, 1.0)
        size = sum(many) / len(many)
        low_now, high_then = range_of(here, many)[0], range_of(there, many)[1]
        extra = read_price(there, size) - read_price(here, size)
        assert high_then + once / kept + reads * extra == pytest.approx(low_now)
        assert f"less than {row['pays_below_worst']:.2g} reads a month" in row["verdict"]
        assert row["pays_below_best"] is None or row["pays_below_best"] > row["pays_below_worst"]


def range_of(price: dict[str, Any], many: list[int]) -> tuple[float, float]:
    billed = sum(max(size, price.get("min_billable_bytes", 0)) for size in many) / GIB
    rate = price["storage_per_gb_month"]
    low, high = price.get("ranges", {}).get("storage_per_gb_month", (rate, rate))
    return billed * low, billed * high


def read_price(price: dict[str, Any], size: float) -> float:
    request = price.get("get_per_1k", 0) + price.get("retrieval_request_per_1k", 0)
    return float(request / 1000 + size / GIB * price.get("retrieval_per_gb", 0))


def test_ages_are_told_by_mtime_and_atime_with_the_trust_each_deserves(own: Own) -> None:
    said = next(row["age"] for row in rows(own.running, "bill") if row["store"] == "nas")
    now, counts = time.time(), dict.fromkeys(AGES, 0)
    for path in own.nas.rglob("*"):
        if path.is_file():
            age = (now - path.stat().st_mtime) / DAY
            counts[max(limit for limit in AGES if age >= limit - 0.4)] += 1
    by_mtime = said.split("; by atime")[0]
    assert "but says when it was written" in by_mtime
    for label, limit in (("under 30", 1), ("over 30", 40), ("over 90", 100), ("over 365", 500)):
        assert f"{label} days {counts[limit]}" in by_mtime
    assert any(word in said.split("by atime")[1] for word in ("relatime", "noatime", "strictatime", "good"))
    bucket = next(row["age"] for row in rows(own.running, "bill") if row["store"] == "cloud")
    assert "keeps no access times" in bucket


@pytest.mark.parametrize("store", ["nas", "cloud"])
def test_the_command_line_prices_a_store_like_the_card_while_the_engine_runs(own: Own, store: str) -> None:
    command = [
        sys.executable,
        "-m",
        "fabric",
        "--data-dir",
        str(own.running.data),
        "replay",
        "--store",
        store,
        "--json",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    shown = {(r["storage_class"], r["prefix"].rstrip("/")): r for r in rows(own.running, "bill") if r["store"] == store}
    assert len(found["bill"]) == len(shown)
    for row in found["bill"]:
        top = row["prefix"].partition("/")[2]
        card = shown[row["storage_class"], top]
        assert (row["objects"], row["size_bytes"]) == (card["objects"], card["size_bytes"])
        assert row["usd"] == pytest.approx(card["storage_usd"] + card["sunk_usd"])


def one_of(own: Own, size: int, name: str) -> str:
    return next(key for key, found in own.bucket.items() if found == (size, name))


def explain(own: Own, key: str) -> dict[str, Any]:
    return dict(own.running.get("/api/explain/" + quote(key)))


def test_an_adopted_object_says_where_it_lies_what_it_costs_and_why_nothing_moves_it(own: Own) -> None:
    key = one_of(own, 200_000, "standard")
    found = explain(own, f"cloud/{key}")
    facts = found["facts"]["optimization"]
    assert facts["object"]["store"] == "cloud"
    assert facts["object"]["own_key"] == key
    assert facts["object"]["size_bytes"] == 200_000
    assert facts["object"]["modified_days_ago"] < 1
    assert facts["object"]["accessed"] is None
    assert facts["cost_a_month"]["storage_usd"] == pytest.approx(month("aws", "standard", [200_000]))
    offered = {row["class"]: row["storage_usd"] for row in facts["classes"]}
    assert offered["standard_ia"] == pytest.approx(month("aws", "standard_ia", [200_000]))
    assert "mode is look" in facts["why_nothing_is_moved"]
    did = {stage["stage"]: stage["did"] for stage in found["stages"]}
    assert "cloud/standard" in did["ingest"]
    assert "mode is look" in did["place"]


def test_a_file_of_ones_own_says_its_age_with_its_trust(own: Own) -> None:
    path = next(path for path in own.nas.rglob("*.bin") if path.stat().st_size == 5_000_000)
    facts = explain(own, f"nas/{path.relative_to(own.nas)}")["facts"]["optimization"]
    days = (time.time() - path.stat().st_mtime) / DAY
    assert facts["object"]["modified_days_ago"] == pytest.approx(days, abs=0.2)
    assert facts["object"]["accessed_trust"]
    assert facts["cost_a_month"]["sunk"] is True
    assert facts["reads_last_30_days"]["known"] is False


def test_an_object_that_nobody_knows_is_not_explained(own: Own) -> None:
    assert own.running.ask("GET", "/api/explain/cloud/no%20such%20key").status == 404


def test_accesses_that_are_fed_turn_unknown_reads_into_costs(own: Own) -> None:
    key = f"cloud/{one_of(own, 200_000, 'standard_ia')}"
    before = explain(own, key)["facts"]["optimization"]
    assert before["reads_last_30_days"]["known"] is False
    assert "with_reads_usd" not in before["cost_a_month"]
    now, reads = time.time(), 50
    own.running.events(
        time=[now - 60.0 * one for one in range(reads)],
        key=[key] * reads,
        op=["read"] * reads,
        bytes=[200_000] * reads,
        size=[200_000] * reads,
    )

    def known() -> Any:
        facts = explain(own, key)["facts"]["optimization"]
        return facts if facts["reads_last_30_days"].get("reads") == reads else None

    after = until(known, seconds=20, what="the reads in the explanation")
    price = tier("aws", "standard_ia")
    cost = after["cost_a_month"]
    assert cost["requests_usd"] == pytest.approx(reads * price["get_per_1k"] / 1000)
    assert cost["retrieval_usd"] == pytest.approx(reads * 200_000 / GIB * price["retrieval_per_gb"])
    lines = ("storage_usd", "requests_usd", "retrieval_usd", "egress_usd")
    assert cost["with_reads_usd"] == pytest.approx(sum(cost[line] for line in lines))
    standard = next(row for row in after["classes"] if row["class"] == "standard")
    assert standard["saving_with_reads_usd"] > standard["saving_before_reads_usd"]


def test_the_bill_of_a_prefix_says_what_its_known_reads_cost_and_for_how_many_objects(own: Own) -> None:
    key = next(key for key, found in own.bucket.items() if found == (200_000, "standard_ia") and key.startswith("ph"))
    reads, when = 40, time.time()
    own.running.events(
        time=[when] * reads,
        key=[f"cloud/{key}"] * reads,
        op=["read"] * reads,
        bytes=[200_000] * reads,
        size=[200_000] * reads,
    )

    def counted() -> Any:
        found = {row["id"]: row for row in rows(own.running, "bill")}["adopted:cloud/standard_ia/photos/"]
        return found if found["reads_usd"] and key in read_keys(own) else None

    row = until(counted, seconds=60, what="the reads in the bill")
    fed = {name: count for name, count in read_keys(own).items() if own.bucket[name][1] == "standard_ia"}
    fed = {name: count for name, count in fed.items() if name.startswith("photos/")}
    price, objects = tier("aws", "standard_ia"), sum(1 for name in own.bucket if name.startswith("photos/"))
    total = sum(fed.values())
    cost = total * price["get_per_1k"] / 1000 + total * 200_000 / GIB * price["retrieval_per_gb"]
    assert row["reads_usd"] == pytest.approx(cost)
    assert row["reads_known"] == f"{len(fed)} of {row['objects']} objects: {total:.0f} reads in 30 days"
    assert row["objects"] <= objects
    other = {one["id"]: one for one in rows(own.running, "bill")}["adopted:nas/hdd/films/"]
    assert other["reads_usd"] is None
    assert other["reads_known"] == f"0 of {other['objects']} objects"


def showback(own: Own, by: str) -> dict[str, Any]:
    """Return what the command prints."""
    command = [sys.executable, "-m", "fabric", "--data-dir", str(own.running.data), "showback", "--by", by, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.item(14)
@pytest.mark.parametrize("by", ["prefix", "requester"])
def test_the_showback_of_ones_own_stores_holds_their_whole_bill_and_the_page_says_the_same(own: Own, by: str) -> None:
    found = showback(own, by)
    kept = sum(month(PROVIDER[store], name, many) for (store, name, _), many in sizes(own).items())
    assert sum(row["storage_usd"] for row in found["rows"]) == pytest.approx(kept, rel=1e-6)
    if by == "prefix":
        shown = {row["name"]: row["objects"] for row in found["rows"]}
        assert shown["nas/films"] == len(sizes(own)["nas", "hdd", "films/"])
        assert sum(shown.values()) == FILES + OBJECTS
    assert f"{FILES + OBJECTS:,} of the last scans" in found["source"]
    page = own.running.get(f"/api/pages/optimization/showback_{by}?limit=1000")
    assert [row["id"] for row in page["rows"]] == [row["name"] for row in found["rows"]]
    for shown, told in zip(page["rows"], found["rows"], strict=True):
        assert shown["total_usd"] == pytest.approx(told["total_usd"])
        assert shown["reads"] == told["reads"]
    assert found["source"] in page["note"]


def read_keys(own: Own) -> dict[str, float]:
    """Return the bucket's objects whose reads the page of listed objects knows."""
    found = own.running.get("/api/pages/optimization/listed_objects?search=cloud/&limit=1000")["rows"]
    return {row["key"].removeprefix("cloud/"): row["reads"] for row in found if row["reads"]}


def test_every_listed_object_is_on_a_page_can_be_searched_and_opens_its_own(own: Own) -> None:
    seen, cursor = [], ""
    while True:
        page = own.running.get(f"/api/pages/optimization/listed_objects?limit=1000{cursor}")
        seen += [row["key"] for row in page["rows"]]
        assert page["total"] == FILES + OBJECTS
        if not page["cursor"]:
            break
        cursor = f"&cursor={quote(page['cursor'])}"
    files = {f"nas/{path.relative_to(own.nas)}" for path in own.nas.rglob("*") if path.is_file()}
    assert len(seen) == FILES + OBJECTS
    assert set(seen) == files | {f"cloud/{key}" for key in own.bucket}
    wanted = "cloud/photos/ä 1"
    found = own.running.get(f"/api/pages/optimization/listed_objects?search={quote(wanted)}&limit=5")
    assert found["total"] == sum(1 for key in seen if wanted in key)
    assert explain(own, found["rows"][0]["key"])["facts"]["optimization"]["object"]["store"] == "cloud"
    table = own.running.get("/api/status")["optimization"]["tables"]["listed_objects"]
    assert (table["total"], len(table["rows"])) == (FILES + OBJECTS, 20)


def test_the_bucket_is_listed_and_priced_under_its_own_keys(own: Own) -> None:
    found, cursor = [], ""
    while True:
        page = own.running.get(f"/api/objects?prefix=cloud/&limit=100{cursor}")
        found += page["objects"]
        if not page.get("cursor"):
            break
        cursor = f"&cursor={quote(page['cursor'])}"
    assert {row["key"] for row in found} == {f"cloud/{key}" for key in own.bucket}
    assert not any(row["managed"] for row in found)


def test_looking_writes_nothing_and_opens_no_object(own: Own) -> None:
    """After connect, scan, price and explain: the server's requests and the folder's times."""
    connected = connect(own, f"{own.recording.server.url}&provider=aws")
    assert connected.returncode == 0, connected.stderr
    assert connect(own, str(own.nas)).returncode == 0
    assert own.running.act("scan").status == 200
    explain(own, f"cloud/{one_of(own, 3_000, 'standard')}")
    assert len(own.recording.requests) > 3
    assert own.recording.writes() == []
    assert own.recording.object_reads() == []
    assert times(own.nas) == own.before


def connect(own: Own, url: str) -> subprocess.CompletedProcess[str]:
    server = own.recording.server
    secret = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    command = [sys.executable, "-m", "fabric", "connect", url]
    return subprocess.run(command, cwd=ROOT, env=os.environ | secret, capture_output=True, text=True, timeout=60)


def test_reading_and_writing_are_refused_by_the_mode_and_name_what_allows_them(own: Own) -> None:
    key = quote(f"cloud/{one_of(own, 10, 'standard')}")
    refused = own.running.ask("GET", f"/api/objects/{key}")
    assert refused.status == 403
    assert "copy" in refused.json()["hint"]
    assert own.running.ask("PUT", "/api/objects/new/key", body=b"x").status == 403
    assert own.running.ask("PUT", f"/api/objects/{key}", body=b"x").status in (403, 409)
