"""Receipts of earlier versions are still explained by the figures that they were decided on."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fabric.catalog.decisions import Decision
from fabric.placement.receipt import decode_survey, replay
from fabric.placement.verdicts import recomputed

FROZEN = Path(__file__).parent / "frozen"
# read in the managed tier; unread there; may go there; one of two copies there
MANAGED = ("in", "cold", "beside", "both")


def frozen(name: str) -> tuple[dict[str, Any], bytes]:
    """Return what an earlier version kept, and the bytes of its survey, which say nothing of levels."""
    kept = json.loads(gzip.decompress((FROZEN / name).read_bytes()))
    stored = base64.b64decode(kept["survey"])
    assert b"levels" not in stored
    return kept, stored


def test_a_receipt_from_before_prices_had_levels_computes_again_bit_for_bit() -> None:
    kept, stored = frozen("receipt-before-levels.json.gz")
    receipt = kept["receipt"]
    assert len(receipt["alternatives"]) > 3
    assert replay(receipt, decode_survey(stored)) == receipt["alternatives"]


@pytest.mark.parametrize("key", MANAGED)
def test_a_decision_about_the_managed_tier_from_before_prices_had_levels_comes_out_the_same(key: str) -> None:
    kept, stored = frozen("managed-before-levels.json.gz")
    decision = next(msgspec.convert(body, Decision) for body in kept["decisions"] if body["key"] == key)
    places = [*decision.receipt["places"], *(place for _, place in decision.receipt["pairs"])]
    assert "s3/intelligent_tiering" in places
    assert recomputed(decision, decode_survey(stored)) is True
