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

import errno
import fcntl
import hashlib
import heapq
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec

from fabric.core.errors import BadInputError, ConflictError, FabricError, PreconditionError
from fabric.core.failing import undoing
from fabric.storage.folders import file_tag, folder, open_root, sorted_files, stat_file, translated, write_all
from fabric.storage.group import Outcome, Put
from fabric.storage.keys import (
    WORK_FOLDER,
    OpenReading,
    check_class,
    check_key,
    check_metadata,
    check_part_number,
    check_tag,
    missing,
    span,
)
from fabric.storage.leftovers import held_name, hold, make_held
from fabric.storage.localgroup import GroupWriter, NewFile
from fabric.storage.parts import Upload, Uploads, one_file
from fabric.storage.room import Reservation, Room
from fabric.storage.store import CHUNK_BYTES, Capabilities, ObjectInfo, Part
from fabric.storage.sums import NoSums

DEFAULT_TYPE = "application/octet-stream"
ATTRIBUTE = "user.fabric.object"
LOCK_STRIPES = 256
LOOKUPS_MOST = 8  # passes over the classes: an object may move between two looks
_PRIVATE = frozenset(f"{WORK_FOLDER}/{name}" for name in ("temp", "locks", "uploads", "moves"))
_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOENT})


class _Notes(msgspec.Struct, frozen=True):
    metadata: dict[str, str] = {}
    content_type: str = DEFAULT_TYPE


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
        self._work = root / WORK_FOLDER
        self._uploads = Uploads(self._work / "uploads", name)
        self._room = Room(self, capacity_bytes)

    # --- reading

    @contextmanager
    def open(
        self, key: str, *, start: int = 0, end: int | None = None, tag: str | None = None
    ) -> Iterator[OpenReading]:
        with translated(store=self.name, path=self.root, key=key):
            handle, storage_class = self._open_file(check_key(key))
        try:
            state = os.fstat(handle)
            info = _info(key, state, storage_class, _notes(handle))
            check_tag(self.name, key, tag, info.tag)
            first, last = span(info.size_bytes, start, end, key=key)
            yield OpenReading(info, self._chunks(handle, key, info, first, last))
        finally:
            os.close(handle)

    def _open_file(self, key: str) -> tuple[int, str]:
        *parents, name = key.split("/")
        for _ in range(self._lookups):
            for storage_class in self.classes:
                with suppress(FileNotFoundError, NotADirectoryError), self._folder(storage_class, parents) as handle:
                    if stat_file(handle, name) is not None:
                        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                        return os.open(name, flags, dir_fd=handle), storage_class
        raise missing(self.name, key)

    def _chunks(self, handle: int, key: str, info: ObjectInfo, position: int, end: int) -> Iterator[bytes]:
        with translated(store=self.name, path=self.root, key=key):
            while position < end:
                piece = os.pread(handle, min(CHUNK_BYTES, end - position), position)
                if not piece:
                    break
                yield piece
                position += len(piece)
            if file_tag(os.fstat(handle)) != info.tag:
                hint = "read it again when its writer has finished"
                raise PreconditionError("the file was changed while it was read", hint=hint, store=self.name, key=key)

    def head(self, key: str) -> ObjectInfo:
        with translated(store=self.name, path=self.root, key=key):
            found = self._find(check_key(key))
            if found is None:
                raise missing(self.name, key)
            storage_class, state = found
            return _info(key, state, storage_class, _notes(self._base(storage_class) / key))

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
            yield _info(key, state, storage_class, _Notes())

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
    ) -> ObjectInfo:
        self._check_writable_key(key)
        wanted = None if storage_class is None else check_class(self.name, self.classes, storage_class)
        notes = _Notes(check_metadata(metadata), content_type or DEFAULT_TYPE)
        self._check_before(key, only_if_absent=only_if_absent, only_if_tag=only_if_tag)
        with self._room.reserved() as room:
            temporary = self._write_temporary(key, chunks, notes, room)
            return self._publish(
                key, temporary, wanted, notes, room, only_if_absent=only_if_absent, only_if_tag=only_if_tag
            )

    def writes_groups(self) -> bool:
        return True

    def put_group(self, puts: Sequence[Put]) -> Sequence[Outcome]:
        """Write new objects; as `Grouping.put_group`."""
        with ExitStack() as stack, translated(store=self.name, path=self.root, key=""):
            notes = {put.key: _Notes(check_metadata(put.metadata), put.content_type or DEFAULT_TYPE) for put in puts}
            files = [self._new_file(put) for put in puts]
            room = stack.enter_context(self._room.reserved())
            room.grow(sum(len(put.data) for put in puts))
            if len(self.classes) > 1:  # a key may lie in any class, so its writers are ordered
                for _, key in sorted({_stripe(put.key): put.key for put in puts}.items()):
                    stack.enter_context(self._lock(key))
            found = GroupWriter(self.root, self.name, lambda handle, key: _keep(handle, notes[key], self.name)).write(
                files
            )
            room.used(sum(state.st_size for state in found.values() if isinstance(state, os.stat_result)))
            return [self._outcome(put, found[put.key], notes[put.key]) for put in puts]

    def _new_file(self, put: Put) -> NewFile:
        self._check_writable_key(put.key)
        wanted, parents = check_class(self.name, self.classes, put.storage_class), put.key.split("/")[:-1]
        others = [self._segments(other, parents) for other in self.classes if other != wanted]
        return NewFile(put.key, put.data, self._segments(wanted, parents), tuple(others))

    def _outcome(self, put: Put, found: os.stat_result | FabricError, notes: _Notes) -> Outcome:
        if isinstance(found, FabricError):
            return found
        return _info(put.key, found, put.storage_class or self.classes[0], notes)

    def _check_before(self, key: str, *, only_if_absent: bool, only_if_tag: str | None) -> None:
        """Refuse at once what would be refused after the bytes were sent; the answer that counts comes later."""
        if not only_if_absent and only_if_tag is None:
            return
        with translated(store=self.name, path=self.root, key=key):
            self._check_state(key, self._find(key), only_if_absent=only_if_absent, only_if_tag=only_if_tag)

    def _check_state(
        self, key: str, found: tuple[str, os.stat_result] | None, *, only_if_absent: bool, only_if_tag: str | None
    ) -> None:
        if only_if_absent and found is not None:
            raise PreconditionError("the key exists already", store=self.name, key=key)
        check_tag(self.name, key, only_if_tag, "" if found is None else file_tag(found[1]))

    def _write_temporary(
        self, key: str, chunks: Iterable[bytes | memoryview], notes: _Notes, room: Reservation
    ) -> Path:
        """Write ``chunks`` durably beside the objects; what ``chunks`` raises passes through and leaves nothing."""
        with translated(store=self.name, path=self.root, key=key):
            handle, path = self._temporary()
        source = iter(chunks)
        written = 0
        with ExitStack() as done, undoing(lambda: path.unlink(missing_ok=True)):
            done.callback(os.close, handle)
            while (piece := next(source, None)) is not None:
                written += len(piece)
                room.grow(written)
                with translated(store=self.name, path=self.root, key=key):
                    write_all(handle, piece)
            with translated(store=self.name, path=self.root, key=key):
                self._finish(handle, notes)
        return path

    def _temporary(self) -> tuple[int, Path]:
        with folder(self.root, self.name, [WORK_FOLDER, "temp"], create=True) as handle:
            name, made = make_held(handle, self.name)
            return made, self._work / "temp" / name

    def _finish(self, handle: int, notes: _Notes) -> None:
        _keep(handle, notes, self.name)
        now = time.time_ns()  # the kernel's own stamp is too coarse to tell two quick writes apart
        os.utime(handle, ns=(now, now))
        os.fsync(handle)

    def _publish(
        self,
        key: str,
        temporary: Path,
        wanted: str | None,
        notes: _Notes,
        room: Reservation,
        *,
        only_if_absent: bool,
        only_if_tag: str | None,
    ) -> ObjectInfo:
        try:
            with translated(store=self.name, path=self.root, key=key):
                return self._place_checked(
                    key, temporary, wanted, notes, room, only_if_absent=only_if_absent, only_if_tag=only_if_tag
                )
        finally:
            temporary.unlink(missing_ok=True)

    def _place_checked(
        self,
        key: str,
        temporary: Path,
        wanted: str | None,
        notes: _Notes,
        room: Reservation,
        *,
        only_if_absent: bool,
        only_if_tag: str | None,
    ) -> ObjectInfo:
        with self._lock(key):
            found = self._find(key)
            self._check_state(key, found, only_if_absent=only_if_absent, only_if_tag=only_if_tag)
            target = wanted or (found[0] if found is not None else self.classes[0])
            at = found[0] if found is not None else target
            self._place(key, temporary, at, create_only=only_if_absent)
            if at != target:
                self._move(key, at, target)
            with self._folder(target, key.split("/")[:-1]) as handle:
                state = os.stat(key.rsplit("/", 1)[-1], dir_fd=handle, follow_symlinks=False)
            room.used(state.st_size - (found[1].st_size if found is not None else 0))
            return _info(key, state, target, notes)

    def _place(self, key: str, temporary: Path, storage_class: str, *, create_only: bool) -> None:
        *parents, name = key.split("/")
        with self._writable_folder(key, storage_class, parents) as handle:
            if create_only:
                try:
                    os.link(temporary, name, dst_dir_fd=handle)
                except FileExistsError:
                    raise PreconditionError("the key exists already", store=self.name, key=key) from None
            else:
                _replace(temporary, name, handle)
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
                with self._lock(key):
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
            with self._lock(key):
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
                _pieces(chosen),
                only_if_absent=only_if_absent,
                storage_class=upload.storage_class,
                metadata=upload.metadata,
                content_type=upload.content_type,
            )
        self._uploads.forget(upload_id)
        return info

    def _adopt(self, key: str, data: Path, size: int, upload: Upload, *, only_if_absent: bool) -> ObjectInfo:
        """Make an upload's one file the object; where that fails the upload is as it was."""
        notes = _Notes(upload.metadata, upload.content_type or DEFAULT_TYPE)
        self._check_before(key, only_if_absent=only_if_absent, only_if_tag=None)
        with self._room.reserved() as room, translated(store=self.name, path=self.root, key=key):
            room.grow(size)
            with self._taken(data) as (temporary, handle), undoing(lambda: os.rename(temporary, data)):
                os.ftruncate(handle, size)
                self._finish(handle, notes)
                info = self._place_checked(
                    key, temporary, upload.storage_class, notes, room, only_if_absent=only_if_absent, only_if_tag=None
                )
            temporary.unlink(missing_ok=True)
        return info

    @contextmanager
    def _taken(self, data: Path) -> Iterator[tuple[Path, int]]:
        """Move an upload's file, held, to where no part can be written into it."""
        held = os.open(data, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            hold(held)
            with folder(self.root, self.name, [WORK_FOLDER, "temp"], create=True) as handle:
                temporary = self._work / "temp" / held_name()
                os.rename(data, temporary.name, dst_dir_fd=handle)
            yield temporary, held
        finally:
            os.close(held)

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

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """Order writers of one key, across threads and processes."""
        with folder(self.root, self.name, [WORK_FOLDER, "locks"], create=True) as locks:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(_stripe(key), flags, 0o644, dir_fd=locks)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _stripe(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=1).hexdigest()


def _keep(handle: int, notes: _Notes, store: str) -> None:
    """Write what is kept beside the bytes, where it is not what is taken for granted."""
    if notes == _Notes():
        return
    try:
        os.setxattr(handle, ATTRIBUTE, msgspec.json.encode(notes))
    except OSError as error:
        hint = "put it without metadata and content type, or use a file system that keeps attributes"
        raise ConflictError("the file system keeps no attributes", hint=hint, store=store) from error


def _replace(temporary: Path, name: str, handle: int) -> None:
    try:
        os.rename(temporary, name, dst_dir_fd=handle)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=handle)  # succeeds only where the folder is empty, so holds no object
        os.rename(temporary, name, dst_dir_fd=handle)


def _pieces(chosen: Sequence[tuple[Path, int, int]]) -> Iterator[bytes]:
    for path, start, size in chosen:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            while piece := file.read(min(CHUNK_BYTES, start + size - file.tell())):
                yield piece


def _notes(where: int | Path) -> _Notes:
    """Return what the extended attribute says, or nothing where there is none."""
    try:
        raw = (
            os.getxattr(where, ATTRIBUTE)
            if isinstance(where, int)
            else os.getxattr(where, ATTRIBUTE, follow_symlinks=False)
        )
        return msgspec.json.decode(raw, type=_Notes)
    except msgspec.DecodeError:
        return _Notes()
    except OSError as error:
        if error.errno in _NO_ATTRIBUTE:
            return _Notes()
        raise


def _info(key: str, state: os.stat_result, storage_class: str, notes: _Notes) -> ObjectInfo:
    return ObjectInfo(
        key,
        state.st_size,
        file_tag(state),
        state.st_mtime,
        storage_class,
        state.st_atime,
        notes.metadata,
        notes.content_type,
    )
