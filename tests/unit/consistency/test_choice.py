"""The order in which a read tries the replicas."""

from __future__ import annotations

from fabric.catalog.heads import Replica
from fabric.consistency.choice import reading_order


def order(*replicas: tuple[str, str], down: str = "", latency: dict[str, float] | None = None) -> list[str]:
    """Return the stores in reading order; replicas are (store, state), clouds are named cloud_*."""
    known = latency or {}
    found = reading_order(
        [Replica(f"{store}/hdd", "b", "none", 1, "00", state=state) for store, state in replicas],
        state_of=lambda store: "DOWN" if store == down else "UP",
        latency_ms_of=lambda replica: known.get(replica.store),
        region_of=lambda _store: "",
        cloud_of=lambda store: store.startswith("cloud"),
    )
    return [replica.store for replica in found]


def test_a_copy_on_the_readers_own_network_comes_before_a_quicker_one_whose_bytes_are_paid_for() -> None:
    assert order(("cloud_a", "live"), ("nas", "live"), latency={"cloud_a": 1.0, "nas": 20.0}) == ["nas", "cloud_a"]


def test_of_two_clouds_the_one_that_answers_sooner_comes_first() -> None:
    assert order(("cloud_a", "live"), ("cloud_b", "live"), latency={"cloud_a": 9.0, "cloud_b": 2.0})[0] == "cloud_b"


def test_a_moved_object_is_read_at_its_new_place_while_the_old_copy_is_kept_for_undo() -> None:
    assert order(("nas", "grace"), ("cloud_a", "live")) == ["cloud_a", "nas"]


def test_a_copy_kept_for_undo_serves_when_the_live_one_is_down() -> None:
    assert order(("nas", "grace"), ("cloud_a", "live"), down="cloud_a") == ["nas", "cloud_a"]
