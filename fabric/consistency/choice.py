"""Which replica a read takes first: health, then the reader's own network and region, then measured latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fabric.catalog.heads import Replica

UNMEASURED_MS = 100.0  # what a place counts until its first bytes were timed: the standard deadline
_RANK = {"UP": 0, "CATCHING_UP": 0, "SUSPECT": 1, "DOWN": 2}


def reading_order(
    replicas: Sequence[Replica],
    *,
    state_of: Callable[[str], str],
    latency_ms_of: Callable[[Replica], float | None],
    region_of: Callable[[str], str],
    cloud_of: Callable[[str], bool],
    near: str = "",
) -> list[Replica]:
    """Return the replicas that hold their bytes, best first; DOWN stores last, so that a wrong verdict costs time only.

    Args:
        cloud_of: whether a store lies in a provider's cloud, out of which every byte is paid for; those come after the
            ones on the reader's own network.
        near: the reader's region; replicas there come before all others of the same health. "" means no preference.

    A copy kept for undo comes after the live ones: a moved object is read at its new place.
    """

    def badness(indexed: tuple[int, Replica]) -> tuple[int, bool, bool, bool, float, int]:
        index, replica = indexed
        latency = latency_ms_of(replica)
        away = bool(near) and region_of(replica.store) != near
        kept = replica.state == "grace"
        known = UNMEASURED_MS if latency is None else latency
        return (_RANK[state_of(replica.store)], kept, away, cloud_of(replica.store), known, index)

    held = [pair for pair in enumerate(replicas) if pair[1].state != "intended"]
    return [replica for _, replica in sorted(held, key=badness)]
