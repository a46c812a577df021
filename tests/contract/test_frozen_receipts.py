"""Receipts of earlier versions are still explained by the figures that they were decided on."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

from fabric.placement.receipt import decode_survey, replay

BEFORE_LEVELS = Path(__file__).parent / "frozen" / "receipt-before-levels.json.gz"


def test_a_receipt_from_before_prices_had_levels_computes_again_bit_for_bit() -> None:
    kept = json.loads(gzip.decompress(BEFORE_LEVELS.read_bytes()))
    stored = base64.b64decode(kept["survey"])
    assert b"levels" not in stored
    receipt = kept["receipt"]
    assert len(receipt["alternatives"]) > 3
    assert replay(receipt, decode_survey(stored)) == receipt["alternatives"]
