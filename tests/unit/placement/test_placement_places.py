"""Where a new version may be written, and what is said when it may be written nowhere."""

from __future__ import annotations

import msgspec
import pytest
from placement_fakes import FakeFleet, FakeHealth, Measured, member, suite_for, world

from fabric.core.clock import ManualClock
from fabric.core.config import PlacementSettings
from fabric.core.errors import CapacityError, ForbiddenError, UnavailableError
from fabric.core.words import Classification, LatencyClass, Mode, ObjectPolicy
from fabric.placement.places import PlaceChooser
from fabric.pricing.sheet import PriceBook

BOOK = PriceBook.load()
GB = 1 << 30


def chooser(fleet: FakeFleet, health: FakeHealth | None = None, copies: int = 3) -> PlaceChooser:
    settings = PlacementSettings(copies=copies)
    return PlaceChooser(fleet, BOOK, health or FakeHealth(), suite_for, settings=settings, clock=ManualClock())


def stores(places: tuple[object, ...]) -> list[str]:
    return [place.store for place in places]


def test_copies_lie_in_different_failure_domains_the_primary_first() -> None:
    places = chooser(world()).choose("k", ObjectPolicy(), size_bytes=GB)
    assert len(places) == len(set(stores(places))) == 3
    assert places[0].name == "nas/hdd"


def test_a_new_object_whose_reads_nobody_knows_goes_to_classes_without_fees_for_reading_or_leaving() -> None:
    for place in chooser(world()).choose("k", ObjectPolicy(), size_bytes=GB):
        assert place.storage_class in ("hdd", "nvme", "standard", "hot")


def test_what_is_new_goes_to_a_plain_class_where_a_managed_tier_seems_to_cost_the_same() -> None:
    fleet = FakeFleet(member("s3", "aws", "intelligent_tiering,standard,standard_ia", region="us-east-1"))
    (place,) = chooser(fleet, copies=1).choose("k", ObjectPolicy(), size_bytes=GB)
    assert place.name == "s3/standard"


def test_known_reads_choose_the_cheapest_primary_and_cold_copies() -> None:
    places = chooser(world()).choose("k", ObjectPolicy(), size_bytes=GB, reads_per_month=0.0)
    assert {place.name for place in places} == {"s3/glacier_instant", "gs/coldline", "nas/hdd"}
    assert chooser(world()).choose("k", ObjectPolicy(), size_bytes=GB, reads_per_month=1000.0)[0].store == "nas"


def test_a_confidential_object_stays_on_premise_with_fewer_copies_than_asked() -> None:
    policy = ObjectPolicy(classification=Classification.CONFIDENTIAL)
    assert stores(chooser(world()).choose("k", policy, size_bytes=GB)) == ["nas", "vault"]


def test_regions_are_a_hard_filter() -> None:
    policy = ObjectPolicy(regions=("eastus", "us-east-1"))
    assert set(stores(chooser(world()).choose("k", policy, size_bytes=GB))) == {"az", "s3"}


@pytest.mark.item(13)
def test_a_place_whose_measured_p99_breaks_the_latency_class_is_refused() -> None:
    fleet = world()
    fleet.latencies["nas/hdd"] = Measured(20, 180)
    chosen = chooser(fleet).choose("k", ObjectPolicy(), size_bytes=GB)
    assert "nas/hdd" not in [place.name for place in chosen]
    critical = ObjectPolicy(latency=LatencyClass.CRITICAL)
    assert [place.name for place in chooser(fleet).choose("k", critical, size_bytes=GB)] == ["nas/nvme"]
    fleet.latencies["nas/nvme"] = Measured(5, 11)
    with pytest.raises(ForbiddenError) as caught:
        chooser(fleet).choose("k", critical, size_bytes=GB)
    assert "nas/nvme (latency)" in caught.value.removed


def test_an_archive_that_needs_hours_is_never_chosen_even_without_a_deadline() -> None:
    fleet = FakeFleet(member("s3", "aws", "glacier_deep"))
    with pytest.raises(ForbiddenError, match="restore"):
        chooser(fleet).choose("k", ObjectPolicy(latency=LatencyClass.ANY), size_bytes=GB)


def test_a_store_that_is_down_or_full_or_only_looked_at_is_left_out() -> None:
    fleet, health = world(), FakeHealth()
    health.down.add("nas")
    fleet.member("vault").store.used, fleet.member("vault").store.capacity = 80, 100
    looked = fleet.member("az")
    looked.settings = msgspec.structs.replace(looked.settings, mode=Mode.LOOK)
    assert set(stores(chooser(fleet, health).choose("k", ObjectPolicy(), size_bytes=10))) == {"s3", "gs"}


def test_the_error_says_which_filter_removed_which_place() -> None:
    fleet = FakeFleet(member("nas", "on_premise", "hdd", mode="look"), member("s3", "aws", "standard"))
    with pytest.raises(ForbiddenError) as caught:
        chooser(fleet).choose("k", ObjectPolicy(classification=Classification.CONFIDENTIAL), size_bytes=1)
    assert caught.value.removed == "nas/hdd (mode), s3/standard (matrix)"


def test_full_stores_are_a_lack_of_room_and_dead_ones_a_reason_to_try_again() -> None:
    fleet, health = FakeFleet(member("nas", "on_premise", "hdd")), FakeHealth()
    fleet.member("nas").store.used, fleet.member("nas").store.capacity = 50, 100
    with pytest.raises(CapacityError):
        chooser(fleet, health).choose("k", ObjectPolicy(), size_bytes=51)
    assert chooser(fleet, health).choose("k", ObjectPolicy(), size_bytes=50)
    health.down.add("nas")
    with pytest.raises(UnavailableError):
        chooser(fleet, health).choose("k", ObjectPolicy(), size_bytes=1)


def test_a_store_that_does_not_say_how_full_it_is_uses_its_declared_capacity() -> None:
    fleet = FakeFleet(member("nas", "on_premise", "hdd"))
    fleet.member("nas").store.broken = True
    fleet.member("nas").settings = msgspec.structs.replace(fleet.member("nas").settings, capacity_bytes=100)
    assert chooser(fleet).choose("k", ObjectPolicy(), size_bytes=50)
    with pytest.raises(CapacityError):
        chooser(fleet).choose("k", ObjectPolicy(), size_bytes=101)


def test_an_adopted_store_takes_no_managed_object() -> None:
    fleet = FakeFleet(member("nas", "on_premise", "hdd", kind="adopted"))
    with pytest.raises(ForbiddenError, match="kind"):
        chooser(fleet).choose("k", ObjectPolicy(), size_bytes=1)
