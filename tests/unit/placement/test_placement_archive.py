"""A real archive, as its last two months left it: placement decides about every file and would lower the bill."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from placement_fakes import NOW, FakeHealth, FakeHistory, suite_for, world
from pyarrow import parquet

from fabric.core.words import ObjectPolicy
from fabric.placement.demand import TREND_DAYS
from fabric.placement.facts import DAYS, Inputs, derive, prior_of
from fabric.placement.options import Market, group, value
from fabric.placement.places import take_survey
from fabric.placement.score import Gate, gate_opens
from fabric.pricing.sheet import PriceBook, Site

SHARED = Path(os.environ.get("FABRIC_SHARED", Path(__file__).parents[4] / "shared"))
TRACE = SHARED / "data" / "traces" / "dev" / "sundials_releases.parquet"


@pytest.mark.skipif(not TRACE.exists(), reason="the trace sundials_releases.parquet is not on this machine")
@pytest.mark.item(17)
def test_files_nobody_reads_may_go_down_and_those_being_read_may_not() -> None:
    table = parquet.read_table(TRACE)
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    day, last = columns["t"] // 86400, int(columns["t"].max() // 86400)
    objects = np.unique(columns["obj"])
    daily = np.zeros((len(objects), DAYS))
    reads = (columns["op"] == 1) & (day > last - DAYS)
    rows = np.searchsorted(objects, columns["obj"])
    np.add.at(daily, (rows[reads], (day[reads] - last + DAYS - 1).astype(int)), columns["n"][reads])
    size = np.zeros(len(objects))
    np.maximum.at(size, rows, columns["size"].astype(float))
    history = FakeHistory()
    for row, name in enumerate(objects):
        history.add(str(name), list(daily[row, :-1]), today=daily[row, -1], size=size[row])
    market = Market(take_survey(world(), PriceBook.load(), FakeHealth(), Site("aws")), PriceBook.load(), suite_for)
    found = group(["s3/standard"], ObjectPolicy(), market)
    count = len(objects)
    inputs = Inputs(
        size_bytes=size,
        bytes_per_read=size,
        reads_per_hour=history.rate_reads(NOW),
        daily=daily,
        observed_days=np.full(count, 400.0),
        age_days=np.full((count, 1), 400.0),
        forecast=np.full((count, 4), np.nan),
        triggered=np.zeros(count, np.bool_),
    )
    facts = derive(inputs, prior_of(history, NOW))
    valued = value(found, facts, 90.0)
    opened = gate_opens(valued.scores, Gate()) & (valued.net > 0)
    cold = [column for column, option in enumerate(found.options) if option.target.store == "s3"]
    quiet = daily.sum(axis=1) == 0
    busy = daily[:, -TREND_DAYS:].sum(axis=1) > 30
    assert count == 339
    assert opened[quiet & (size > 1e6)][:, cold].any(axis=1).mean() > 0.9
    assert not opened[busy][:, cold].any()
    verdicts = Counter(opened[:, cold].any(axis=1).tolist())
    assert verdicts[True] > 20
    assert verdicts[False] > 20
