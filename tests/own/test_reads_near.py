"""Where reads go first, and are priced from, when the settings say where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from worlds import still

from fabric.app.engine import Engine
from fabric.app.prices import priced, reading_site
from fabric.core.config import ConsistencySettings, Settings, StoreSettings
from fabric.core.errors import ConfigError
from fabric.core.words import Classification, Mode, ObjectPolicy, Zone
from fabric.plane.objects import Caller, PutOptions
from fabric.pricing.sheet import Site
from fabric.security.tokens import LOCAL

CALLER = Caller(LOCAL, agent="test")
REGIONS = {"house": ("onprem", "home", Zone.ON_PREMISE), "ireland": ("aws", "eu-west-1", Zone.AWS)}


def settings(folder: Path, near: str) -> Settings:
    stores = {
        name: StoreSettings(
            url=str(folder / name), mode=Mode.MOVE, kind="managed", provider=provider, region=region, zone=zone
        )
        for name, (provider, region, zone) in REGIONS.items()
    }
    return Settings(stores=stores, consistency=ConsistencySettings(near=near))


def write(engine: Engine) -> None:
    """Write an object to both stores."""
    options = PutOptions(ObjectPolicy(Classification.PUBLIC), size_bytes=4)
    engine.objects.put("k", [b"text"], options, CALLER)
    head = engine.heads.get("k")
    assert head is not None
    assert {replica.store for replica in head.current.replicas} == set(REGIONS)


def first_read(engine: Engine) -> str:
    """Return the store that the object is read from."""
    head = engine.heads.get("k")
    assert head is not None
    with engine.reader.open(head, head.current) as reading:
        assert b"".join(bytes(piece) for piece in reading) == b"text"
        assert reading.replica is not None
        return reading.replica.store


@pytest.mark.parametrize(("near", "store"), [("", "house"), ("home", "house"), ("eu-west-1", "ireland")])
def test_reads_go_to_the_replica_near_the_region_of_the_settings(tmp_path: Path, near: str, store: str) -> None:
    with still(tmp_path, settings(tmp_path, near)) as engine:
        write(engine)
        assert first_read(engine) == store


def test_reads_go_elsewhere_while_the_near_store_does_not_answer(tmp_path: Path) -> None:
    with still(tmp_path, settings(tmp_path, "eu-west-1")) as engine:
        write(engine)
        assert first_read(engine) == "ireland"
        for _ in range(5):
            engine.health.failed("ireland")
        assert first_read(engine) == "house"


def test_reads_are_priced_from_the_region_they_come_from(tmp_path: Path) -> None:
    ireland = Site("aws", "eu-west-1")
    given = settings(tmp_path, "eu-west-1")
    assert priced(given).egress(ireland, reading_site(given)).per_gb == 0
    anywhere = settings(tmp_path, "")
    assert priced(anywhere).egress(ireland, reading_site(anywhere)).per_gb > 0
    with still(tmp_path, given) as engine:
        assert engine.chooser._reader == engine.placement._rules.reader == ireland


def test_a_region_that_no_store_lies_in_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"consistency\.near"), still(tmp_path, settings(tmp_path, "atlantis")):
        pass
