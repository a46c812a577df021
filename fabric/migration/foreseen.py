"""How moves will be carried out, said before they are: what a plan prices. Asks the catalog alone, never a store.

The same rules decide it that the workers follow: `proof_of`, `part_size`, `assess`, the sealer's suites.
"""

from __future__ import annotations

from collections.abc import Sequence

from fabric.catalog.decisions import Decision
from fabric.catalog.heads import Head, Version
from fabric.catalog.jobs import Job
from fabric.core.errors import FabricError
from fabric.core.words import Place
from fabric.migration.canary import CANARY_READS
from fabric.migration.copy import Edge
from fabric.migration.grouping import grouped
from fabric.migration.intake import facts_of
from fabric.migration.parts import goes_in_parts, part_size
from fabric.migration.pointer import find_version, replace, replica_at
from fabric.migration.ports import ReadRate, UndoCost
from fabric.migration.proof import Proof, proof_of
from fabric.migration.risk import Level, assess
from fabric.migration.tools import Tools
from fabric.pricing.moving import Manner
from fabric.storage.between import ServerCopy
from fabric.storage.server_copy import server_copy


def foreseen(
    tools: Tools, decisions: Sequence[Decision], undo_cost: UndoCost, read_rate: ReadRate, *, apart: bool = False
) -> dict[str, Manner]:
    """Return by decision id how each would be carried out, together in one run; those that cannot be are left out.

    The target store's access is tested once for the moves that follow each other (`AccessTests`): by the first.

    Args:
        apart: as if each were alone, so that no sum of some of them is above what all of them cost.
    """
    found: dict[str, Manner] = {}
    tested: set[str] = set()
    together = frozenset() if apart else _together(tools, decisions)
    for decision in decisions:
        try:
            store = Place.parse(decision.target).store
            manner = _manner(tools, decision, undo_cost, read_rate, test=apart or store not in tested)
        except FabricError:
            continue  # the decision is void; whoever carries it out says why
        tested.add(store)
        if decision.id in together and manner.verbatim and not (manner.kept or manner.inside):
            manner = replace(manner, checked=False)
        found[decision.id] = manner
    return found


def _together(tools: Tools, decisions: Sequence[Decision]) -> frozenset[str]:
    """Return the ids of those that go in groups: these read the source at once, without asking for it first."""
    jobs = []
    for decision in decisions:
        head = tools.heads.get(decision.key)
        here = [replica for replica in head.current.replicas if replica.place == decision.source] if head else []
        jobs += [replace(_unrecorded(decision), id=decision.id, bytes=replica.blob_bytes) for replica in here]
    groups = grouped(jobs, (), at_once=tools.batches_at_once, part_bytes=tools.settings.part_bytes)
    return frozenset(job.id for group in groups if group[1:] for job in group)


def _manner(tools: Tools, decision: Decision, undo_cost: UndoCost, read_rate: ReadRate, *, test: bool) -> Manner:
    head = tools.heads.get(decision.key)
    version = find_version(head, decision.version_id)
    assert head is not None
    edge = tools.edge(_unrecorded(decision))
    facts = facts_of(tools, decision, head, version, undo_usd=undo_cost(decision), read_rate=read_rate)
    high = assess(facts, tools.settings).level is Level.HIGH
    there, inside = replica_at(version, decision.target), _inside(edge)
    return Manner(
        source=decision.source,
        target=decision.target,
        door=f"{edge.target.name}/{edge.target.classes[0]}",
        source_bytes=edge.replica.blob_bytes,
        target_bytes=_arriving(tools, edge, head, version),
        proof=(Proof.READ_BACK if inside else proof_of(edge, tools.settings.verify)).value,
        parts=_parts(tools, edge) if inside is None else inside.parts(edge.replica.blob_bytes),
        inside=inside is not None,
        verbatim=edge.verbatim,
        kept=there is not None and not edge.in_place,
        access_tests=int(test),
        canary_reads=CANARY_READS if high else 0,
        reaped=tools.may_delete(edge.source.name),
        source_door=f"{edge.source.name}/{edge.source.classes[0]}",
        scale=version.money_bytes / version.size_bytes if version.size_bytes else 1.0,
    )


def _unrecorded(decision: Decision) -> Job:
    """Return the decision as a job that nobody recorded, to look at its edge."""
    return Job("", decision.key, decision.version_id, decision.source, decision.target, 0, decision.made)


def _parts(tools: Tools, edge: Edge) -> int:
    size, least = edge.replica.blob_bytes, tools.settings.part_bytes
    if edge.in_place or not edge.verbatim or not goes_in_parts(edge, least, tools.one_request_bytes):
        return 0
    return -(-size // part_size(size, least))


def _inside(edge: Edge) -> ServerCopy | None:
    """Return what copies inside the server, where the move will be one."""
    if edge.in_place or not edge.verbatim or not edge.replica.blob_bytes:
        return None
    return server_copy(edge.source, edge.target)


def _arriving(tools: Tools, edge: Edge, head: Head, version: Version) -> int:
    """Return the bytes of the copy at the target: the source's, or what sealing them anew makes of them."""
    if edge.verbatim or edge.in_place:
        return edge.replica.blob_bytes
    return tools.sealer.sealed_bytes(head, version, edge.suite)
