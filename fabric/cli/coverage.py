"""What a command says of a log's coverage."""

from __future__ import annotations

from typing import Any


def coverage_told(met: dict[str, Any], acted: str) -> list[str]:
    """Say how much of the accesses a log holds beside the floor; where that is not known, that nothing is refused.

    Args:
        met: a report's ``coverage``.
        acted: what is done where the share is not known, up to "refused".
    """
    refusal, floor = met["refusal"], f"{met['floor'] * 100:.4g}%"
    if not met["known"]:
        below = f"only where the share is known to be below the floor (here {floor}; live, placement.coverage_floor)"
        return [f"{refusal[0].upper()}{refusal[1:]}.", f"{acted} {below}."]
    if refusal:
        return [f"No planner should act on this: {refusal}."]
    beside = f"{'at' if met['share'] == met['floor'] else 'above'} the floor of {floor}"
    beside += ", though its interval reaches below" if met["low"] < met["floor"] else ""
    share, low, high = (f"{met[name]:.1%}" for name in ("share", "low", "high"))
    told = "; ".join(met["evidence"])
    return [f"The log holds an estimated {share} of the accesses ({low} to {high}), {beside}: {told}."]
