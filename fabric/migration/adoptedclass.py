"""A change of class in place: the bytes are hashed, then one conditional act of the server, then asked again."""

from __future__ import annotations

from fabric.catalog.jobs import Checkpoint
from fabric.core.errors import ConflictError, PreconditionError
from fabric.migration.adopted import Ends, replace, require_same
from fabric.migration.gate import Gate
from fabric.migration.pointer import OverwrittenError
from fabric.migration.proof import Proof
from fabric.migration.tools import Tools
from fabric.migration.verify import read_back
from fabric.storage.hazards import UNREADABLE_CLASS, RefusedError, refuse
from fabric.storage.keeping import changes_class_safely, keeper_of
from fabric.storage.store import ObjectInfo

UNREADABLE = frozenset({"glacier_flexible", "glacier_deep", "archive"})


class ClassChange:
    """Keeps the promises of `fabric.migration.adopted.Act` for class changes."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def check(self, ends: Ends, /) -> Checkpoint:
        self._tools.fleet.require(ends.source.name, "read")
        self._tools.fleet.require(ends.source.name, "delete")  # the copy of before is replaced
        store = ends.source.store
        if ends.target_class not in store.classes or ends.target_class == ends.source_class:
            raise ConflictError("the store has no such other class", store=store.name, wanted=ends.target_class)
        if ends.target_class in UNREADABLE:
            refuse((UNREADABLE_CLASS,), store=store.name, key=ends.key)
        info = require_same(ends)
        if info.storage_class != ends.source_class:
            raise OverwrittenError("the object has another class by now", store=store.name, key=ends.key)
        keeper = keeper_of(store)
        if keeper is not None:
            refuse(keeper.look(ends.key).hazards, store=store.name, key=ends.key)
        elif not changes_class_safely(store):
            raise RefusedError(
                "the fabric cannot tell what a class change would lose in this kind of store",
                hint="change the class with the provider's own tools",
                hazard="unknown_store",
                store=store.name,
            )
        return Checkpoint(blob=ends.key, blob_bytes=info.size_bytes, owned=False)

    def bring(self, ends: Ends, gate: Gate, /) -> Checkpoint:
        copy = ends.copy
        if not copy.blob_sha256:
            require_same(ends)
            found, size = read_back(ends.source.store, ends.key, ends.tag, gate, "before")
            copy = replace(copy, blob_sha256=found, blob_bytes=size)
            self._tools.jobs.save(
                ends.job, copy
            )  # a crash behind the act knows by it whether the content is still this one
        gate.moved(copy.blob_bytes)
        info = self._changed(ends, ends.target_class, ends.tag)
        self._tools.reached("class.changed")
        return replace(copy, tag=info.tag, done_bytes=info.size_bytes)

    def _changed(self, ends: Ends, storage_class: str, tag: str) -> ObjectInfo:
        """Change the class unless an earlier attempt has; `prove` tells whose content it is."""
        store = ends.source.store
        info = store.head(ends.key)
        if info.storage_class == storage_class:
            return info
        if info.tag != tag:
            raise OverwrittenError("the object was written meanwhile", store=store.name, key=ends.key)
        try:
            keeper = keeper_of(store)
            if keeper is not None:
                return keeper.change_class(ends.key, storage_class, tag=tag)
            return store.set_class(ends.key, storage_class, tag=tag)
        except PreconditionError as error:
            raise OverwrittenError("the object was written meanwhile", store=store.name, key=ends.key) from error

    def prove(self, ends: Ends, gate: Gate, /) -> tuple[str, str]:
        """Equal tags are equal bytes, and these were hashed before; another tag is read back."""
        info = ends.source.store.head(ends.key)
        if info.tag != ends.tag:
            found, _ = read_back(ends.source.store, ends.key, info.tag, gate)
            if found != ends.copy.blob_sha256:
                raise OverwrittenError("the object was written meanwhile", store=ends.source.name, key=ends.key)
        return Proof.READ_BACK.value, ends.copy.blob_sha256

    def switch(self, _ends: Ends, /) -> None:
        """Readers are there already."""

    def back(self, ends: Ends, /) -> str:
        store = ends.source.store
        info = store.head(ends.key)
        if info.storage_class != ends.target_class:
            return ""
        if (
            info.tag not in (ends.copy.tag, ends.tag)
            and read_back(store, ends.key, info.tag)[0] != ends.copy.blob_sha256
        ):
            return "what was written meanwhile was left alone"
        self._changed(ends, ends.source_class, info.tag)
        return ""

    def check_back(self, ends: Ends, /) -> None:
        if ends.source.store.head(ends.key).tag != ends.copy.tag:
            raise ConflictError("the object was written since", job=ends.job.id, hint="plan a change of its own")

    def tidy(self, _ends: Ends, /) -> str:
        return "the grace period of a class change has ended; there is no second copy"
