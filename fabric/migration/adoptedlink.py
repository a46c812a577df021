"""A file moved to another folder with a symbolic link left behind; the old file is kept through the grace period."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fabric.catalog.jobs import Checkpoint
from fabric.core.errors import CapacityError, ConflictError, IntegrityError, PreconditionError, UnavailableError
from fabric.migration.adopted import Ends, MustGoBackError, refuse_taken, replace, require_same
from fabric.migration.gate import Gate
from fabric.migration.pointer import OverwrittenError
from fabric.migration.proof import Proof
from fabric.migration.tools import Tools
from fabric.migration.verify import read_back
from fabric.storage import links
from fabric.storage.hazards import RefusedError
from fabric.storage.keeping import folder_of
from fabric.storage.links import Root
from fabric.storage.store import Store


class LinkedMove:
    """Keeps the promises of `fabric.migration.adopted.Act` for files."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def check(self, ends: Ends, /) -> Checkpoint:
        self._tools.fleet.require(ends.source.name, "delete")
        self._tools.fleet.require(ends.target.name, "write")
        source, target = _roots(ends)
        if ends.source.settings.links != "ok":
            raise RefusedError(
                "the folder is not declared to have links left behind",
                hint=f"set links = 'ok' for stores.{ends.source.name}",
                hazard="links_not_declared",
                store=ends.source.name,
            )
        seen = self._look(source, ends)
        refuse_taken(ends)
        self._tools.freeze.check()  # the probe writes
        client = ends.source.settings.client_path
        links.probe_links(source, target, Path(client) if client else None)
        _check_room(ends, seen.size_bytes)
        return Checkpoint(blob=ends.key, blob_bytes=seen.size_bytes)

    def _look(self, source: Root, ends: Ends) -> links.Seen:
        quiet = self._tools.settings.quiet_seconds
        seen = links.look(source, ends.key, quiet_seconds=quiet, now=self._tools.clock.now())
        if seen.tag != ends.tag:
            raise OverwrittenError("the file was written meanwhile", store=source.name, key=ends.key)
        return seen

    def bring(self, ends: Ends, gate: Gate, /) -> Checkpoint:
        source, target = _roots(ends)
        links.forget_copy(target, ends.key, ends.job.id, keep=False)
        hasher = hashlib.sha256()
        require_same(ends)
        with ends.source.store.open(ends.key, tag=ends.tag) as reading:
            links.write_copy(
                source, target, ends.key, ends.job.id, gate.through(gate.watch("before").over(reading), hasher)
            )
        require_same(ends)
        self._tools.reached("copy.put")
        made = links.name_copy(target, ends.key, ends.job.id)
        return replace(
            ends.copy,
            tag=made.tag,
            blob_sha256=hasher.hexdigest(),
            blob_bytes=made.size_bytes,
            done_bytes=made.size_bytes,
        )

    def prove(self, ends: Ends, gate: Gate, /) -> tuple[str, str]:
        media = self._tools.settings.verify == "media"
        if media:
            ends.target.store.drop_cached(ends.key)
        found, size = read_back(ends.target.store, ends.key, ends.copy.tag, gate)
        if (found, size) != (ends.copy.blob_sha256, ends.copy.blob_bytes):
            raise IntegrityError("the copy differs from its source", store=ends.target.name, key=ends.key)
        return (Proof.MEDIA if media else Proof.READ_BACK).value, found

    def switch(self, ends: Ends, /) -> None:
        source, target = _roots(ends)
        if links.old_file(source, ends.job.id) is None:
            self._look(source, ends)
        try:
            links.swap_in(source, target, ends.key, ends.job.id, ends.tag)
        except PreconditionError as error:
            raise OverwrittenError("the file was replaced meanwhile", store=source.name, key=ends.key) from error
        links.forget_copy(target, ends.key, ends.job.id, keep=True)

    def back(self, ends: Ends, /) -> str:
        source, target = _roots(ends)
        there = links.find(target, ends.key)
        if (
            links.old_file(source, ends.job.id) is not None
            and there is not None
            and ends.copy.tag
            and there.tag != ends.copy.tag
        ):
            raise ConflictError("the copy was written through the link", store=target.name, key=ends.key)
        links.swap_back(source, target, ends.key, ends.job.id)
        links.forget_copy(target, ends.key, ends.job.id, keep=False)
        if ends.copy.tag and there is not None and there.tag == ends.copy.tag:
            ends.target.store.delete(ends.key, tag=ends.copy.tag)
        return ""

    def check_back(self, ends: Ends, /) -> None:
        source, target = _roots(ends)
        there, old = links.find(target, ends.key), links.old_file(source, ends.job.id)
        if old is None:
            raise ConflictError("the old file has already been removed", job=ends.job.id)
        if not links.points_to(source, target, ends.key):
            raise ConflictError("another file lies under the name by now", job=ends.job.id)
        if there is None or there.tag != ends.copy.tag:
            raise ConflictError(
                "the file was written since, at its new place", job=ends.job.id, hint="plan a move back"
            )

    def tidy(self, ends: Ends, /) -> str:
        """Compare the old file again, and remove it only where the copy stands for it."""
        source, target = _roots(ends)
        old, there = links.old_file(source, ends.job.id), links.find(target, ends.key)
        if old is None:
            return "there was no old file to remove"
        if who := links.is_open(source, ends.job.id):
            raise UnavailableError("a program still has the old file open", program=who)
        if there is None:
            return f"the file is gone from its new place: the old one is kept as .fabric/moves/{ends.job.id}.old"
        if old.tag != ends.tag or _sha256_of_old(source, ends.job.id) != ends.copy.blob_sha256:
            if there.tag != ends.copy.tag:
                return f"old and new file were both written: the old one is kept as .fabric/moves/{ends.job.id}.old"
            raise MustGoBackError("the old file was written during its grace, so it was put back")
        self._tools.freeze.check()
        self._tools.jobs.note(
            ends.job, self._tools.clock.now(), "reap", place=ends.job.source, blob=f"{ends.job.id}.old"
        )
        self._tools.reached("reap.noted")
        links.drop_old(source, ends.job.id)
        self._tools.reached("reap.deleted")
        return "the old file was removed"


def _roots(ends: Ends) -> tuple[Root, Root]:
    return _root(ends.source.store), _root(ends.target.store)


def _root(store: Store) -> Root:
    found = folder_of(store)
    if found is None:
        raise RefusedError(
            "only a file of an adopted folder of one class leaves a link behind",
            hint="give both stores as plain folders with kind = 'adopted'",
            hazard="not_a_folder",
            store=store.name,
        )
    return Root(store.name, found.root)


def _sha256_of_old(source: Root, job: str) -> str:
    hasher = hashlib.sha256()
    for piece in links.read_old(source, job):
        hasher.update(piece)
    return hasher.hexdigest()


def _check_room(ends: Ends, size_bytes: int) -> None:
    used, capacity = ends.target.store.usage()
    bounds = [bound for bound in (capacity, ends.target.settings.capacity_bytes) if bound is not None]
    if bounds and used + size_bytes > min(bounds):
        raise CapacityError("the target has no room for the copy", store=ends.target.name, needed=size_bytes)
