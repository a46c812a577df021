"""A verified copy in another store; the source goes after the grace period, and only where the settings say so."""

from __future__ import annotations

from functools import partial

from fabric.catalog.heads import Head, Replica, Version
from fabric.catalog.jobs import Checkpoint
from fabric.core.errors import CapacityError, ConflictError, NotFoundError
from fabric.core.words import ObjectPolicy, Suite
from fabric.migration.adopted import Ends, refuse_taken, replace, require_same
from fabric.migration.copy import Edge, copy_between
from fabric.migration.gate import Gate
from fabric.migration.pointer import OverwrittenError
from fabric.migration.proof import Proof, is_proven_by_server, proof_of
from fabric.migration.tools import Tools
from fabric.migration.verify import prove_copy, read_back
from fabric.storage.hazards import CUSTOMER_KEY, KMS_KEY, OBJECT_LOCK, TAGS, Hazard, Kept, RefusedError, refuse
from fabric.storage.keeping import keeper_of

_NEVER = (KMS_KEY.name, CUSTOMER_KEY.name)  # what cannot be read
_NO_REMOVAL = (*_NEVER, OBJECT_LOCK.name)


class VerifiedCopy:
    """Keeps the promises of `fabric.migration.adopted.Act` for copies."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def check(self, ends: Ends, /) -> Checkpoint:
        tools, target = self._tools, ends.target
        tools.fleet.require(ends.source.name, "read")
        tools.fleet.require(target.name, "write")
        if target.settings.kind != "adopted":
            raise RefusedError(
                "a managed store holds objects under the fabric's own keys, sealed",
                hint="write it there with: python -m fabric put",
                hazard="managed_target",
                store=target.name,
            )
        if ends.target_class not in target.store.classes:
            raise ConflictError("the target store has no such class", store=target.name, wanted=ends.target_class)
        info, kept = require_same(ends), _kept(ends)
        refuse(_against(ends, kept), store=ends.source.name, key=ends.key)
        refuse_taken(ends)
        used, capacity = target.store.usage()
        bounds = [bound for bound in (capacity, target.settings.capacity_bytes) if bound is not None]
        if bounds and used + info.size_bytes > min(bounds):
            raise CapacityError("the target has no room for the copy", store=target.name, needed=info.size_bytes)
        return Checkpoint(blob=ends.key, suite=Suite.NONE.value, blob_bytes=info.size_bytes)

    def bring(self, ends: Ends, gate: Gate, /) -> Checkpoint:
        tools, edge = self._tools, _edge(ends)
        require_same(ends)
        copied = copy_between(
            edge,
            tools.sealer,
            gate,
            ends.copy,
            save=tools.saver(ends.job),
            part_bytes=tools.settings.part_bytes,
            one_request_bytes=tools.one_request_bytes,
            whole=True,
            again=ends.job.epoch > 1 or ends.job.attempts > 0,
            reached=tools.reached,
        )
        found = copied.source_sha256 or _hash_now(ends, gate)
        done = replace(copied.checkpoint, blob_sha256=found)
        tools.jobs.save(ends.job, done)
        return replace(done, tag=_tagged(ends, done))

    def prove(self, ends: Ends, gate: Gate, /) -> tuple[str, str]:
        edge, copy = _edge(ends), ends.copy
        proof = proof_of(edge, self._tools.settings.verify)
        if proof is Proof.SERVER_SHA256:
            if copy.blob_bytes and is_proven_by_server(edge, copy, copy.blob_sha256):
                return proof.value, copy.blob_sha256
            proof = Proof.READ_BACK
        if proof is Proof.MEDIA:
            ends.target.store.drop_cached(copy.blob)
        source = partial(_hash_now, ends, gate)
        return proof.value, prove_copy(ends.target.store, copy, copy.blob_sha256, gate, source)

    def switch(self, ends: Ends, /) -> None:
        """Nothing points to an adopted object: the copy counts if its source is still what was copied."""
        require_same(ends)

    def back(self, ends: Ends, /) -> str:
        """Remove the copy, where it is the one that was made and its source stands for it."""
        copy, store = ends.copy, ends.target.store
        if copy.upload_id:
            store.abort(ends.key, copy.upload_id)
        if not copy.tag and not copy.blob_sha256:
            return self._whose(ends)
        try:
            info = store.head(ends.key)
        except NotFoundError:
            return ""
        if not self._tools.may_delete(ends.target.name):
            return "the copy stays: the mode of its store forbids deleting"
        if not _is_original(ends):
            return "the copy stays: the source is another by now"
        if info.size_bytes != copy.blob_bytes or read_back(store, ends.key, info.tag)[0] != copy.blob_sha256:
            return "what lies at the target is not the copy that was made: it was left alone"
        store.delete(ends.key, tag=info.tag)
        return ""

    def _whose(self, ends: Ends) -> str:
        """Say what is known of an object at the target whose maker is not recorded: it is left alone."""
        try:
            ends.target.store.head(ends.key)
        except NotFoundError:
            return ""
        return "an object of this name lies at the target and may be somebody else's: it was left alone"

    def check_back(self, ends: Ends, /) -> None:
        require_same(ends)
        if ends.target.store.head(ends.key).tag != ends.copy.tag:
            raise ConflictError("the copy was written since", job=ends.job.id, hint="remove it by hand, or keep it")

    def tidy(self, ends: Ends, /) -> str:
        tools, source = self._tools, ends.source
        if not source.settings.remove_source:
            return "the source stays: remove_source is not set for its store"
        tools.fleet.require(source.name, "delete")
        refuse(_against(ends, _kept(ends)), store=source.name, key=ends.key)
        try:
            require_same(ends)
        except OverwrittenError as error:
            return f"the source stays: {error.message}"
        if not _stands_for(ends):
            return "the source stays: the copy is gone or another by now"
        tools.freeze.check()
        tools.jobs.note(ends.job, tools.clock.now(), "reap", place=ends.job.source, blob=ends.key)
        tools.reached("reap.noted")
        source.store.delete(ends.key, tag=ends.tag)
        tools.reached("reap.deleted")
        return "the source was removed"


def _edge(ends: Ends) -> Edge:
    """Return the move as a copy between stores sees one: an object without a head, never sealed, never removed."""
    size, sha256 = ends.copy.blob_bytes, ends.copy.blob_sha256
    replica = Replica(ends.job.source, ends.key, Suite.NONE.value, size, sha256, ends.tag)
    version = Version(ends.tag, size, sha256, ends.job.created, ("", 0), {}, (replica,))
    head = Head(ends.job.key, ObjectPolicy(), (version,))
    source, target = ends.source.store, ends.target.store
    return Edge(
        head,
        version,
        replica,
        source,
        target,
        ends.job.target,
        ends.target_class,
        Suite.NONE,
        may_delete=False,
    )


def _kept(ends: Ends) -> Kept:
    keeper = keeper_of(ends.source.store)
    return Kept() if keeper is None else keeper.look(ends.key)


def _against(ends: Ends, kept: Kept) -> tuple[Hazard, ...]:
    """Return what forbids this copy, and its source's removal where that is set."""
    names = _NO_REMOVAL if ends.source.settings.remove_source else _NEVER
    found = tuple(hazard for hazard in kept.hazards if hazard.name in names)
    return (*found, TAGS) if kept.tags and keeper_of(ends.target.store) is None else found


def _tagged(ends: Ends, done: Checkpoint) -> str:
    """Give the copy its source's tags; return the mark of its content (tags are no part of it)."""
    if tags := _kept(ends).tags:
        keeper = keeper_of(ends.target.store)
        assert keeper is not None, "checked before"
        keeper.set_tags(ends.key, tags)
    return done.tag


def _hash_now(ends: Ends, gate: Gate) -> str:
    return read_back(ends.source.store, ends.key, ends.tag, gate, "before")[0]


def _is_original(ends: Ends) -> bool:
    try:
        require_same(ends)
    except OverwrittenError:
        return False
    return True


def _stands_for(ends: Ends) -> bool:
    """Say whether the copy holds the source's bytes now: the tag that was proven, or its bytes hashed anew."""
    try:
        info = ends.target.store.head(ends.key)
    except NotFoundError:
        return False
    return info.tag == ends.copy.tag or read_back(ends.target.store, ends.key, info.tag)[0] == ends.copy.blob_sha256
