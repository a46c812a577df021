"""The live ledgers of the settings' stores."""

from __future__ import annotations

from pathlib import Path

from fabric.core.clock import Clock
from fabric.core.config import Settings
from fabric.events.log import EventLog
from fabric.placement.live.elsewhere import ChildPast
from fabric.placement.live.keeper import Ledgers
from fabric.placement.live.stores import tariffs_of, terms_of
from fabric.pricing.sheet import PriceBook


def ledgers_for(settings: Settings, prices: PriceBook, folder: Path, log: EventLog, clock: Clock) -> Ledgers:
    """Return the ledgers under ``folder``; where the rule is the score alone they keep no account."""
    tariffs = tariffs_of(settings.stores, prices) if settings.placement.rule != "score" else {}
    terms, scanners = terms_of(settings.placement), settings.placement.scanners
    path = folder / "placement"
    return Ledgers(path, tariffs, log, clock, terms=terms, unlearned=scanners, elsewhere=ChildPast(path))
