"""A made-up S3 access log whose objects differ in how they are read, and a dashboard with a real time machine."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fabric.app.timemachine import TimeMachine
from fabric.core.clock import SystemClock
from fabric.dashboard.ports import Person
from fabric.security.tokens import Principal, Role
from tests.dashboard_world import TOKEN, World, running

OWNER = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
START = datetime(2026, 1, 5, tzinfo=UTC)
OPERATOR, VIEWER = TOKEN, "token-of-a-viewer"
HOSTILE_KEY = "raw/%2522%253Cimg%2520src%253Dx%2520onerror%253D1%253E.txt"  # as S3 writes it: encoded twice


def log_line(at: datetime, key: str, size: int, *, operation: str = "REST.GET.OBJECT", request: int = 0) -> str:
    """Return one line of an S3 server access log."""
    verb = "PUT" if ".PUT." in operation else "GET"
    return (
        f"{OWNER} photos [{at:%d/%b/%Y:%H:%M:%S +0000}] 192.0.2.3 {OWNER} {request:016X} {operation} {key} "
        f'"{verb} /photos/{key} HTTP/1.1" 200 - {size} {size} 12 10 "-" "test/1.0" - - - - - - - - -\n'
    )


def access_log(objects: int = 40, days: int = 200) -> str:
    """Return a log: some objects are read daily, some only at first, some rarely; two lines cannot be read."""
    chance = random.Random(7)
    rows: list[tuple[datetime, str, int, str]] = []
    for number in range(objects):
        key = HOSTILE_KEY if number == 1 else f"album/{number % 5}/photo-{number:04}.raw"
        size = chance.randrange(1, 60) * 4_000_000
        rows.append((START + timedelta(minutes=number), key, size, "REST.PUT.OBJECT"))
        for day in range(days):
            often = (1.0, 0.6 if day < 20 else 0.0, 0.02)[number % 3]
            if chance.random() < often:
                rows.append((START + timedelta(days=day, hours=2, seconds=number), key, size, "REST.GET.OBJECT"))
    rows.sort()
    lines = [log_line(at, key, size, operation=op, request=n) for n, (at, key, size, op) in enumerate(rows)]
    return "".join(lines) + "this is no line of a log\nnor is this\n"


def invoice(usd: float = 0.55) -> str:
    """Return a cost and usage report (AWS CUR) of the log's 200 days."""
    head = (
        "lineItem/LineItemType,lineItem/ProductCode,lineItem/UsageType,lineItem/Operation,lineItem/UsageStartDate,"
        "lineItem/UsageEndDate,lineItem/UsageAmount,pricing/unit,lineItem/UnblendedCost,lineItem/CurrencyCode\n"
    )
    span = "2026-01-05T00:00:00Z,2026-07-24T00:00:00Z"
    return (
        f"{head}Usage,AmazonS3,TimedStorage-ByteHrs,StandardStorage,{span},27.6,GB-Mo,{usd},USD\n"
        f"Usage,AmazonS3,Requests-Tier2,GetObject,{span},3024,Requests,0.00121,USD\n"
        f"Tax,AmazonS3,,,{span},1,,0.04,USD\n"
    )


def inventory(objects: int = 40) -> str:
    """Return an inventory as a table with named columns: what lies in the hot class, and one object in another."""
    rows = [f"photos,album/{n % 5}/photo-{n:04}.raw,{4_000_000 * (n + 1)},STANDARD" for n in range(objects) if n != 1]
    return "\n".join(["Bucket,Key,Size,StorageClass", *rows, "photos,never/read.raw,900000000,STANDARD_IA", ""])


def principal(who: Any) -> Principal:
    """Return whom a page's session or token stands for."""
    if who is None:
        return Principal("anyone", Role.VIEWER, frozenset(), anonymous=True)
    return Principal(who.name, Role(who.role), frozenset())


def whose(token: str) -> Person | None:
    return {OPERATOR: Person("tester", "operator"), VIEWER: Person("guest", "viewer")}.get(token)


@contextmanager
def with_time_machine(folder: Path, **given: Any) -> Iterator[tuple[World, TimeMachine]]:
    """Run a dashboard whose time machine is the real one; ``given`` goes to it."""
    exports = folder / "exports"
    exports.mkdir(parents=True)
    machine = TimeMachine(folder / "timemachine", SystemClock(), given.pop("principal", principal), **given)
    try:
        with running(exports, time_machine=machine, who=whose) as world:
            yield world, machine
    finally:
        machine.stop()
