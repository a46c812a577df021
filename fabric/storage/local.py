"""A store that is a folder: objects are plain files, written whole and flushed to disk.

An adopted root of one class holds its keys as they are: ``root/a/b.txt`` is the key ``a/b.txt`` for every other tool
too. A managed root, or one of several classes, has a folder per class: ``root/CLASS/a/b.txt``.

The fabric's own files lie under ``root/.fabric/``: ``temp`` (unfinished writes), ``locks`` (256 files that order
writers of one key), ``uploads`` (parts). They are made by the first write; reading, listing and asking make nothing.

Create-only is atomic against every program (``link``). Compare-and-set is atomic against every process of the fabric
(lock, compare, rename); a program that writes in place without the lock can come between.

Metadata and content type lie in the extended attribute ``user.fabric.object``, which is set before the file appears.
"""

from __future__ import annotations

import heapq
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fabric.core.errors import BadInputError, ConflictError, FabricError, PreconditionError
from fabric.storage.direct import read_past_cache
from fabric.storage.folders import (
    file_tag,
    folder,
    open_root,
    read_pieces,
    replace,
    sorted_files,
    stat_file,
    translated,
)
from fabric.storage.group import Outcome, Put
from fabric.storage.keys import (
    DEFAULT_TYPE,
    WORK_FOLDER,
    Condition,
    OpenReading,
    check_class,
    check_condition,
    check_key,
    check_metadata,
    check_part_number,
    check_tag,
    missing,
    span,
)
from fabric.storage.local_notes import Notes, info_of, read_notes, write_notes
from fabric.storage.local_work import WorkFolder
from fabric.storage.localgroup import GroupWriter, NewFile
from fabric.storage.parts import Upload, Uploads, one_file, pieces_of
from fabric.storage.pieces import as_announced
from fabric.storage.room import Reservation, Room
from fabric.storage.store import CHUNK_BYTES, PIECE_MOST_BYTES, Announced, Capabilities, ObjectInfo, Part
from fabric.storage.sums import NoSums

DIRECT_LEAST_BYTES = 4 << 20  # of a read past the page cache
UNCACHED_MOST = 256  # latest objects known to lie on the disk alone
LOOKUPS_MOST = 8  # passes over the classes: an object may move between two looks
_PRIVATE = frozenset(f"{WORK_FOLDER}/{name}" for name in ("temp", "locks", "uploads", "moves"))


@dataclass(frozen=True, slots=True)
class _Written:
    """An object's bytes, durable but without a name yet, and where they are to go."""

    key: str
    path: Path
    wanted: str | None  # class; None: where the object lies already, else the hot one
    notes: Notes
    room: Reservation


class LocalStore(NoSums):
    """Keeps the promises of `Store` on a local or mounted folder.

    Args:
        name: the store's name in errors and figures.
        root: an existing folder; it may be a symbolic link, nothing below it is followed.
        classes: storage classes, hot one first.
        adopted: the files are a user's own; with one class their paths are the keys.
        capacity_bytes: refuse writes beyond this many bytes; None means the disk is the bound.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        *,
        classes: tuple[str, ...] = ("hdd",),
        adopted: bool = False,
        capacity_bytes: int | None = None,
    ) -> None:
        self.name = name
        self.root = root
        self.classes = classes
        self.capabilities = Capabilities(class_change=len(classes) > 1)
        self.flat = adopted and len(classes) == 1
        self._lookups = LOOKUPS_MOST if len(classes) > 1 else 1
        self._work = WorkFolder(root, name)
        self._uploads = Uploads(root / WORK_FOLDER / "uploads", name)
        self._room = Room(self, capacity_bytes)
        self._uncached: deque[str] = deque(maxlen=UNCACHED_MOST)  # tags of what was written past the page cache

    # --- reading

    @contextmanager
    def open(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        tag: str | None = None,
        into: memoryview | None = None,
    ) -> Iterator[OpenReading]:
        with translated(store=self.name, path=self.root, key=key):
            handle, storage_class = self._open_file(check_key(key))
        try:
            state = os.fstat(handle)
            info = info_of(key, state, storage_class, read_notes(handle))
            check_tag(self.name, key, tag, info.tag)
            first, last = span(info.size_bytes, start, end, key=key)
            yield OpenReading(info, self._chunks(handle, key, info, self._pieces(handle, info.tag, first, last, into)))
        finally:
            os.close(handle)

    def _pieces(
        self, handle: int, tag: str, first: int, last: int, into: memoryview | None
    ) -> Iterator[bytes | memoryview]:
        """Read what was written past the cache past it too: nobody has it in memory, so it is not brought there."""
        if into is not None and last - first >= DIRECT_LEAST_BYTES and tag in self._uncached:
            return read_past_cache(handle, first, last, into, PIECE_MOST_BYTES)
        return read_pieces(handle, first, last, into, CHUNK_BYTES if into is None else PIECE_MOST_BYTES)

    def _open_file(self, key: str) -> tuple[int, str]:
        *parents, name = key.split("/")
        for _ in range(self._lookups):
            for storage_class in self.classes:
                with suppress(FileNotFoundError, NotADirectoryError), self._folder(storage_class, parents) as handle:
                    if stat_file(handle, name) is not None:
                        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                        return os.open(name, flags, dir_fd=handle), storage_class
        raise missing(self.name, key)

    def _chunks(
        self, handle: int, key: str, info: ObjectInfo, pieces: Iterator[bytes | memoryview]
    ) -> Iterator[bytes | memoryview]:
        with translated(store=self.name, path=self.root, key=key):
            yield from pieces
            if file_tag(os.fstat(handle)) != info.tag:
                hint = "read it again when its writer has finished"
                raise PreconditionError("the file was changed while it was read", hint=hint, store=self.name, key=key)

    def head(self, key: str) -> ObjectInfo:
        with translated(store=self.name, path=self.root, key=key):
            found = self._find(check_key(key))
            if found is None:
                raise missing(self.name, key)
            storage_class, state = found
            return info_of(key, state, storage_class, read_notes(self._base(storage_class) / key))

    def _find(self, key: str) -> tuple[str, os.stat_result] | None:
        *parents, name = key.split("/")
        for _ in range(self._lookups):
            for storage_class in self.classes:
                with suppress(FileNotFoundError, NotADirectoryError), self._folder(storage_class, parents) as handle:
                    state = stat_file(handle, name)
                    if state is not None:
                        return storage_class, state
        return None

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        os.close(open_root(self.root, self.name))
        with translated(store=self.name, path=self.root, key=prefix):
            sources = [self._list_class(storage_class, prefix, after) for storage_class in self.classes]
            merged = heapq.merge(*sources, key=lambda info: info.key.encode())
            last = None
            for count, info in enumerate(merged):
                if limit is not None and count >= limit:
                    return
                if info.key != last:  # seen in two classes only while it moves
                    yield info
                last = info.key

    def _list_class(self, storage_class: str, prefix: str, after: str) -> Iterator[ObjectInfo]:
        for key, state in sorted_files(self._base(storage_class), "", prefix=prefix, after=after, skip=_PRIVATE):
            yield info_of(key, state, storage_class, Notes())

    # --- writing

    def put(
        self,
        key: str,
        chunks: Iterable[bytes | memoryview],
        *,
        only_if_absent: bool = False,
        only_if_tag: str | None = None,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
        announced: Announced | None = None,
    ) -> ObjectInfo:
        self._check_writable_key(key)
        wanted = None if storage_class is None else check_class(self.name, self.classes, storage_class)
        notes = Notes(check_metadata(metadata), content_type or DEFAULT_TYPE)
        condition = Condition(only_if_absent, only_if_tag)
        self._check_before(key, condition)
        with self._room.reserved() as room:
            written = _Written(
                key, self._work.write(key, as_announced(chunks, announced), notes, room), wanted, notes, room
            )
            return self._publish(written, condition)

    def writes_groups(self) -> bool:
        return True

    def put_group(self, puts: Sequence[Put]) -> Sequence[Outcome]:
        """Write new objects; as `Grouping.put_group`."""
        with ExitStack() as stack, translated(store=self.name, path=self.root, key=""):
            notes = {put.key: Notes(check_metadata(put.metadata), put.content_type or DEFAULT_TYPE) for put in puts}
            files = [self._new_file(put) for put in puts]
            room = stack.enter_context(self._room.reserved())
            room.grow(sum(len(put.data) for put in puts))
            if len(self.classes) > 1:  # a key may lie in any class, so its writers are ordered
                stack.enter_context(self._work.locks(put.key for put in puts))
            found = GroupWriter(
                self.root, self.name, lambda handle, key: write_notes(handle, notes[key], store=self.name)
            ).write(files)
            room.used(sum(state.st_size for state in found.values() if isinstance(state, os.stat_result)))
            return [self._outcome(put, found[put.key], notes[put.key]) for put in puts]

    def _new_file(self, put: Put) -> NewFile:
        self._check_writable_key(put.key)
        wanted, parents = check_class(self.name, self.classes, put.storage_class), put.key.split("/")[:-1]
        others = [self._segments(other, parents) for other in self.classes if other != wanted]
        return NewFile(put.key, put.data, self._segments(wanted, parents), tuple(others))

    def _outcome(self, put: Put, found: os.stat_result | FabricError, notes: Notes) -> Outcome:
        if isinstance(found, FabricError):
            return found
        return info_of(put.key, found, put.storage_class or self.classes[0], notes)

    def _check_before(self, key: str, condition: Condition) -> None:
        """Refuse at once what would be refused after the bytes were sent; the answer that counts comes later."""
        if condition:
            with translated(store=self.name, path=self.root, key=key):
                self._check_state(key, self._find(key), condition)

    def _check_state(self, key: str, found: tuple[str, os.stat_result] | None, condition: Condition) -> None:
        check_condition(self.name, key, condition, None if found is None else file_tag(found[1]))

    def _publish(self, written: _Written, condition: Condition) -> ObjectInfo:
        try:
            with translated(store=self.name, path=self.root, key=written.key):
                return self._place_checked(written, condition)
        finally:
            written.path.unlink(missing_ok=True)

    def _place_checked(self, written: _Written, condition: Condition) -> ObjectInfo:
        key = written.key
        with self._work.lock(key):
            found = self._find(key)
            self._check_state(key, found, condition)
            target = written.wanted or (found[0] if found is not None else self.classes[0])
            at = found[0] if found is not None else target
            self._place(key, written.path, at, create_only=condition.only_if_absent)
            if at != target:
                self._move(key, at, target)
            with self._folder(target, key.split("/")[:-1]) as handle:
                state = os.stat(key.rsplit("/", 1)[-1], dir_fd=handle, follow_symlinks=False)
            written.room.used(state.st_size - (found[1].st_size if found is not None else 0))
            return info_of(key, state, target, written.notes)

    def _place(self, key: str, temporary: Path, storage_class: str, *, create_only: bool) -> None:
        *parents, name = key.split("/")
        with self._writable_folder(key, storage_class, parents) as handle:
            if create_only:
                try:
                    os.link(temporary, name, dst_dir_fd=handle)
                except FileExistsError:
                    raise PreconditionError("the key exists already", store=self.name, key=key) from None
            else:
                replace(temporary, name, handle)
            os.fsync(handle)

    @contextmanager
    def _writable_folder(self, key: str, storage_class: str, parents: Sequence[str]) -> Iterator[int]:
        try:
            with self._folder(storage_class, parents, create=True) as handle:
                yield handle
        except NotADirectoryError:
            hint = "choose a key that does not lie below a file or a symbolic link"
            raise ConflictError("a segment of the key is not a folder", hint=hint, store=self.name, key=key) from None

    def _move(self, key: str, source: str, target: str) -> None:
        *parents, name = key.split("/")
        with self._folder(source, parents) as old, self._folder(target, parents, create=True) as new:
            os.rename(name, name, src_dir_fd=old, dst_dir_fd=new)
            os.fsync(new)
            os.fsync(old)

    def delete(self, key: str, *, tag: str | None = None) -> None:
        self._check_writable_key(key)
        with translated(store=self.name, path=self.root, key=key):
            if self._find(key) is not None:
                with self._work.lock(key):
                    self._delete_locked(key, tag)

    def _delete_locked(self, key: str, tag: str | None) -> None:
        found = self._find(key)
        if found is None:
            return
        check_tag(self.name, key, tag, file_tag(found[1]))
        *parents, name = key.split("/")
        with self._folder(found[0], parents) as handle:
            os.unlink(name, dir_fd=handle)
            os.fsync(handle)
        self._room.changed(-found[1].st_size)

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        self._check_writable_key(key)
        check_class(self.name, self.classes, storage_class)
        with translated(store=self.name, path=self.root, key=key):
            if self._find(key) is None:
                raise missing(self.name, key)
            with self._work.lock(key):
                found = self._find(key)
                if found is None:
                    raise missing(self.name, key)
                check_tag(self.name, key, tag, file_tag(found[1]))
                if found[0] != storage_class:
                    self._move(key, found[0], storage_class)
        return self.head(key)

    # --- uploads

    def begin(
        self,
        key: str,
        *,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        self._check_writable_key(key)
        wanted = check_class(self.name, self.classes, storage_class)
        os.close(open_root(self.root, self.name))
        with translated(store=self.name, path=self.root, key=key):
            return self._uploads.begin(Upload(key, wanted, check_metadata(metadata), content_type))

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        with translated(store=self.name, path=self.root, key=key):
            self._uploads.get(key, upload_id)
            self._room.check(len(data))
            return self._uploads.put(upload_id, check_part_number(number), data)

    def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        with translated(store=self.name, path=self.root, key=key):
            self._uploads.get(key, upload_id)
            return self._uploads.parts(upload_id)

    def complete(
        self, key: str, upload_id: str, parts: tuple[Part, ...], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        with translated(store=self.name, path=self.root, key=key):
            upload = self._uploads.get(key, upload_id)
            chosen = self._uploads.chosen(upload_id, parts)
        whole = one_file(chosen)
        if whole is not None:
            info = self._adopt(key, *whole, upload, only_if_absent=only_if_absent)
        else:
            info = self.put(
                key,
                pieces_of(chosen),
                only_if_absent=only_if_absent,
                storage_class=upload.storage_class,
                metadata=upload.metadata,
                content_type=upload.content_type,
            )
        self._uploads.forget(upload_id)
        return info

    def _adopt(self, key: str, data: Path, size: int, upload: Upload, *, only_if_absent: bool) -> ObjectInfo:
        """Make an upload's one file the object; where that fails the upload is as it was."""
        notes = Notes(upload.metadata, upload.content_type or DEFAULT_TYPE)
        condition = Condition(only_if_absent)
        self._check_before(key, condition)
        with self._room.reserved() as room, translated(store=self.name, path=self.root, key=key):
            room.grow(size)
            with self._work.taken(data, size, notes) as temporary:
                info = self._place_checked(_Written(key, temporary, upload.storage_class, notes, room), condition)
        self._uncached.append(info.tag)
        return info

    def abort(self, key: str, upload_id: str) -> None:
        check_key(key)
        self._uploads.forget(upload_id)

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        with translated(store=self.name, path=self.root, key=prefix):
            yield from self._uploads.all(prefix)

    # --- the rest

    def usage(self) -> tuple[int, int | None]:
        if self._room.capacity_bytes is not None:
            return self._room.used(), self._room.capacity_bytes
        os.close(open_root(self.root, self.name))
        disk = os.statvfs(self.root)
        return (disk.f_blocks - disk.f_bfree) * disk.f_frsize, disk.f_blocks * disk.f_frsize

    def drop_cached(self, key: str) -> None:
        """Make the next read of ``key`` come from the medium."""
        with translated(store=self.name, path=self.root, key=key):
            handle, _ = self._open_file(check_key(key))
            try:
                os.fdatasync(handle)  # what is not written cannot be dropped
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)

    def close(self) -> None:
        """Nothing is held open."""

    def _base(self, storage_class: str) -> Path:
        return self.root if self.flat else self.root / storage_class

    def _folder(
        self, storage_class: str, parents: Sequence[str], *, create: bool = False
    ) -> AbstractContextManager[int]:
        return folder(self.root, self.name, self._segments(storage_class, parents), create=create)

    def _segments(self, storage_class: str, parents: Sequence[str]) -> tuple[str, ...]:
        return tuple(parents) if self.flat else (storage_class, *parents)

    def _check_writable_key(self, key: str) -> None:
        first_two = "/".join(check_key(key).split("/")[:2])
        if first_two in _PRIVATE or key == WORK_FOLDER:
            raise BadInputError("the key lies in the fabric's own folder", hint="choose another key", key=key)
