"""A container of Azure and a bucket of Google, looked at by the real program: priced, and nothing of them touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import servers
from program import ROOT, Program, program, until

GIB = float(1 << 30)
OBJECTS = 30  # in each store
SHEETS = ROOT / "fabric" / "pricing" / "sheets"
pytestmark = pytest.mark.server


@dataclass(frozen=True)
class Clouds:
    running: Program
    recordings: dict[str, servers.Recording]
    stores: dict[str, str]  # name -> URL
    environment: dict[str, str]
    truth: dict[tuple[str, str], list[int]]  # store, class -> sizes


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clouds]:
    if shutil.which("node") is None or not servers.AZURITE.exists() or servers.fake_gcs_program() is None:
        pytest.skip("azurite or fake-gcs-server is not installed")
    folder = tmp_path_factory.mktemp("clouds")
    with servers.azurite() as azure, servers.fake_gcs() as gcs:
        truth = fill_container(azure) | fill_bucket(gcs)
        with servers.recording(azure) as first, servers.recording(gcs) as second:
            stores = {
                "blobs": f"{first.server.url}&provider=azure&zone=azure&class=hot,cool,cold",
                "google": f"{second.server.url}&provider=gcp&zone=gcp&class=standard,nearline",
            }
            arguments = [word for name, url in stores.items() for word in ("--store", f"{name}={url}")]
            environment = {"AZURE_STORAGE_SAS_TOKEN": list_only(azure)}
            with program(folder, arguments, environment) as running:
                yield Clouds(running, {"blobs": first, "google": second}, stores, environment, truth)


def fill_container(server: servers.Server) -> dict[tuple[str, str], list[int]]:
    from azure.storage.blob import StandardBlobTier

    made: dict[tuple[str, str], list[int]] = {}
    with servers.container(server) as client:
        for number in range(OBJECTS):
            tier = (StandardBlobTier.HOT, StandardBlobTier.COOL, StandardBlobTier.COLD)[number % 3]
            client.upload_blob(f"photos/ä {number}", bytes(number * 1000), standard_blob_tier=tier)
            made.setdefault(("blobs", tier.value.lower()), []).append(number * 1000)
    return made


def list_only(server: servers.Server) -> str:
    """Return a signature that allows to list the container and nothing else."""
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    account, _, name = server.bucket.partition("/")
    until = datetime.now(UTC) + timedelta(hours=1)
    rights = ContainerSasPermissions(list=True)
    return str(generate_container_sas(account, name, account_key=server.secret_key, permission=rights, expiry=until))


def fill_bucket(server: servers.Server) -> dict[tuple[str, str], list[int]]:
    from urllib3 import PoolManager

    made: dict[tuple[str, str], list[int]] = {}
    client, address = PoolManager(), f"{server.endpoint}/upload/storage/v1/b/{server.bucket}/o?uploadType=multipart"
    for number in range(OBJECTS):
        name = ("STANDARD", "NEARLINE")[number % 2]
        said = json.dumps({"name": f"scans/ä {number}", "storageClass": name})
        head = f"--x\r\nContent-Type: application/json\r\n\r\n{said}\r\n--x\r\nContent-Type: text/plain\r\n\r\n"
        body = head.encode() + bytes(number * 1000) + b"\r\n--x--\r\n"
        answer = client.request("POST", address, body=body, headers={"Content-Type": "multipart/related; boundary=x"})
        assert answer.status == 200
        made.setdefault(("google", name.lower()), []).append(number * 1000)
    return made


def month(provider: str, name: str, many: list[int]) -> float:
    """Return a month's storage, object by object, from the sheet's file."""
    price = tomllib.loads((SHEETS / f"{provider}.toml").read_text())["tiers"][name]
    return float(
        sum(max(size, price.get("min_billable_bytes", 0)) for size in many) / GIB * price["storage_per_gb_month"]
    )


def bill(clouds: Clouds) -> dict[tuple[str, str], Any] | None:
    """Return the bill's rows once every object is in them."""
    rows = clouds.running.get("/api/pages/optimization/bill?limit=1000")["rows"]
    found = {(row["store"], row["storage_class"]): row for row in rows}
    return found if sum(row["objects"] for row in rows) == 2 * OBJECTS else None


@pytest.mark.item(14)
def test_todays_bill_of_a_container_and_a_bucket_is_that_of_their_providers_sheets(clouds: Clouds) -> None:
    found = until(lambda: bill(clouds), seconds=60, what="the bill")
    assert set(found) == set(clouds.truth)
    for (store, name), many in clouds.truth.items():
        row = found[store, name]
        assert (row["objects"], row["size_bytes"]) == (len(many), sum(many))
        provider = {"blobs": "azure", "google": "gcp"}[store]
        assert row["storage_usd"] == pytest.approx(month(provider, name, many))


def test_connect_says_what_works_and_prints_the_smallest_policy(clouds: Clouds, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fabric", "--json", "connect", clouds.stores["blobs"]]
    environment = os.environ | clouds.environment | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(check["name"], check["ok"]) for check in found["checks"]] == [("list", True)]
    assert [action.rpartition("/")[2] for action in found["policy"]["role"]["DataActions"]] == ["read"]


def test_after_connect_scan_and_price_nothing_was_written_and_no_object_opened(clouds: Clouds) -> None:
    until(lambda: bill(clouds), seconds=60, what="the bill")
    for name, listing in (("blobs", "/devstoreaccount1/bucket"), ("google", "/storage/v1/b/bucket/o")):
        requests = clouds.recordings[name].requests
        assert {(method, path.partition("?")[0]) for method, path in requests} == {("GET", listing)}
