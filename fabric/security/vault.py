"""Seals versions into blobs and opens them again, in memory bounded by a chunk.

The stream's associated data is the SHA-256 of the blob's whole header, so that a body cannot be put under another
version's name and no field of a header can be changed unseen.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fabric.catalog.heads import Replica
from fabric.core.errors import CorruptError, IntegrityError, RangeError
from fabric.core.words import Classification, Suite
from fabric.formats.blob import (
    FOOTER_BYTES,
    HEADER_STEP,
    PREFIX_BYTES,
    BlobHeader,
    Draft,
    Footer,
    header_needs,
    header_of,
    pack_footer,
    pack_header,
    unpack_footer,
    unpack_header,
)
from fabric.security import matrix
from fabric.security.hashing import Hasher
from fabric.security.keys import WRAP_BYTES, KeyTable, unwrap, wrap
from fabric.security.opening import Layer, Readable, Source, StoredBody, decrypted_whole
from fabric.security.stream import Chunk, Layout, encrypted
from fabric.storage.store import Store

HEADER_GUESS_BYTES = 4096  # read at once; longer headers cost one more request

DATA_KEY_BYTES = {Suite.NONE: (), Suite.STANDARD: (16,), Suite.ENHANCED: (32,), Suite.MILITARY: (32, 32)}
"""Length of the data key of each layer, innermost first."""


class Sealed:
    """A blob on its way: iterate it once to get its bytes; the figures are there after the last.

    Memory: about 2 MiB for each layer. The pieces are not used again, so they may be kept or handed to threads.
    """

    def __init__(
        self, header: bytes, suite: Suite, data_keys: tuple[bytes, ...], chunks: Iterable[Chunk], hasher: Hasher
    ) -> None:
        self.suite = suite
        self.plain_bytes = 0
        self.blob_bytes = 0
        self.sha256 = ""  # of the plain bytes, hex
        self.blob_sha256 = ""
        self._header, self._data_keys, self._chunks, self._hasher = header, data_keys, chunks, hasher

    def __iter__(self) -> Iterator[Chunk]:
        whole = hashlib.sha256()
        for piece in self._hasher.passed(self._pieces(), whole, kept=bool(self._data_keys)):
            self.blob_bytes += len(piece)
            yield piece
        self.blob_sha256 = whole.hexdigest()

    def _pieces(self) -> Iterator[Chunk]:
        yield self._header
        plain = hashlib.sha256()
        stream = self._counted(self._hasher.passed(self._chunks, plain, kept=False))
        for key in self._data_keys:
            stream = encrypted(key, hashlib.sha256(self._header).digest(), stream)
        body_bytes = 0
        for piece in stream:
            body_bytes += len(piece)
            yield piece
        self.sha256 = plain.hexdigest()
        masked = _masked(plain.digest(), self._data_keys)
        yield pack_footer(Footer(self.plain_bytes, body_bytes, masked))

    def _counted(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            self.plain_bytes += len(chunk)
            yield chunk


class Vault:
    """Encrypts and decrypts versions under the keys of one key table. Safe from any thread."""

    def __init__(self, keys: KeyTable) -> None:
        self.keys = keys
        self._hasher = Hasher()

    def suite_for(self, classification: str, zone: str) -> Suite:
        """Return how a class is encrypted in a zone; ForbiddenError where it may not lie (`matrix`)."""
        return matrix.suite_for(classification, zone)

    def key_for(self, key: str, classification: Classification = Classification.PRIVATE) -> str:
        """Return the id of the object key of ``key``, made and persisted on first use."""
        return self.keys.key_for(key, classification)

    def alive(self, key_id: str) -> bool:
        """Say whether the object key exists and was not destroyed."""
        return self.keys.has(key_id)

    def seal(self, draft: Draft, suite: Suite, chunks: Iterable[Chunk]) -> Sealed:
        """Return the blob of ``draft`` and ``chunks`` under ``suite`` with a fresh data key.

        Raises:
            NotFoundError: the object key of the draft was destroyed or is not in the key table.
        """
        data_keys = tuple(secrets.token_bytes(length) for length in DATA_KEY_BYTES[suite])
        wrapped = self._wrap(draft, data_keys) if data_keys else b""
        return Sealed(pack_header(header_of(draft, suite, wrapped)), suite, data_keys, chunks, self._hasher)

    @contextmanager
    def unseal(
        self, store: Store, replica: Replica, *, start: int = 0, end: int | None = None
    ) -> Generator[Iterator[Chunk]]:
        """Read plain bytes ``start`` to ``end`` (exclusive; None: to the last) of a replica.

        The whole object is one request, and its end checks the footer's hash; a part reads the header and the
        segments that hold it.

        Raises:
            RangeError: ``start`` lies beyond the object.
            IntegrityError: while iterating: bytes are not what was written. Encrypted pieces yielded before it are
                authentic; plain ones are proven only by the end of a whole read.
            NotFoundError: the blob is gone, or its object key was destroyed.
        """
        if start == 0 and end is None:
            with store.open(replica.blob) as reading:
                yield self._whole(replica, iter(reading), reading.info.size_bytes)
            return
        plain = self._readable(store, replica)
        last = plain.size_bytes if end is None else min(end, plain.size_bytes)
        if not 0 <= start <= last:
            raise RangeError("the range lies outside the object", start=start, end=end, size_bytes=plain.size_bytes)
        yield plain.read(start, last)

    def reseal(self, store: Store, replica: Replica, draft: Draft, suite: Suite) -> Sealed:
        """Return the same plain bytes sealed under another suite; the old blob is read as the new one is iterated."""

        def plain() -> Iterator[Chunk]:
            with self.unseal(store, replica) as chunks:
                yield from chunks

        return self.seal(draft, suite, plain())

    def sealed_bytes(self, draft: Draft, suite: Suite, plain_bytes: int) -> int:
        """Return the length of the blob that `seal` makes of so many plain bytes; makes no key and reads nothing."""
        lengths = DATA_KEY_BYTES[suite]
        header = pack_header(header_of(draft, suite, bytes(sum(length + WRAP_BYTES for length in lengths))))
        body_bytes = plain_bytes
        for length in lengths:
            body_bytes = Layout(length).cipher_bytes(body_bytes)
        return len(header) + body_bytes + FOOTER_BYTES

    def header(self, store: Store, blob: str) -> tuple[BlobHeader, Footer]:
        """Return a blob's header and footer, the footer's hash unmasked.

        Where the object key was destroyed the hash is empty: the bytes can never be compared with anything.

        Raises:
            CorruptError: damaged, cut off, or no blob of the fabric.
        """
        info = store.head(blob)
        header, packed, _ = _read_header(store, blob, info.size_bytes)
        if info.size_bytes < len(packed) + FOOTER_BYTES:
            raise CorruptError("the blob is cut off", blob=blob, size_bytes=info.size_bytes)
        with store.open(blob, start=info.size_bytes - FOOTER_BYTES, end=info.size_bytes, tag=info.tag) as reading:
            footer = unpack_footer(b"".join(reading))
        if header.suite is not Suite.NONE and not self.keys.has(header.key_id):
            return header, msgspec.structs.replace(footer, sha256=b"")
        digest = _masked(footer.sha256, self._data_keys(header))
        return header, msgspec.structs.replace(footer, sha256=digest)

    def shred(self, key_id: str) -> None:
        """Destroy every copy of an object key (`KeyTable.shred`)."""
        self.keys.shred(key_id)

    def export_key(self, key: str) -> dict[str, object]:
        """Return what a foreign client needs to decrypt (`KeyTable.export_key`)."""
        return self.keys.export_key(key)

    def _wrap(self, draft: Draft, data_keys: tuple[bytes, ...]) -> bytes:
        object_keys = self.keys.object_keys(draft.key_id)
        context = _context(draft.key_id, draft.version_id)
        return b"".join(wrap(outer, key, context) for outer, key in zip(object_keys, data_keys, strict=False))

    def _data_keys(self, header: BlobHeader) -> tuple[bytes, ...]:
        """Return the data key of each layer: the first under the first custodian's key, the second the second's."""
        if header.suite is Suite.NONE:
            return ()
        lengths = [length + WRAP_BYTES for length in DATA_KEY_BYTES[header.suite]]
        if len(header.wrapped_key) != sum(lengths):
            raise CorruptError("the blob's header is damaged", version_id=header.version_id)
        context = _context(header.key_id, header.version_id)
        keys, at = [], 0
        for outer, length in zip(self.keys.object_keys(header.key_id), lengths, strict=False):
            keys.append(unwrap(outer, header.wrapped_key[at : at + length], context))
            at += length
        return tuple(keys)

    def _whole(self, replica: Replica, pieces: Iterator[Chunk], blob_bytes: int) -> Iterator[Chunk]:
        """Read the header now, so that what is wrong with it is known before the first byte is passed on."""
        source = Source(pieces)
        start = source.exactly(PREFIX_BYTES)
        start += source.exactly(header_needs(start) - PREFIX_BYTES)
        header = _expected(unpack_header(start), replica)
        packed = start + source.exactly(header.header_bytes - len(start))
        keys, body_bytes = self._data_keys(header), blob_bytes - len(packed) - FOOTER_BYTES
        if body_bytes < 0:
            raise IntegrityError("the blob is cut off", key=header.key, blob_bytes=blob_bytes)
        plain = decrypted_whole(keys, hashlib.sha256(packed).digest(), source.upto(body_bytes), body_bytes)
        return self._checked(plain, source, header, keys, body_bytes)

    def _checked(
        self, plain: Iterator[Chunk], source: Source, header: BlobHeader, keys: tuple[bytes, ...], body_bytes: int
    ) -> Iterator[Chunk]:
        """Pass plain pieces on; at their end compare length and hash with the footer that follows in ``source``."""
        digest, plain_bytes = hashlib.sha256(), 0
        for piece in self._hasher.passed(plain, digest, kept=bool(keys)):
            plain_bytes += len(piece)
            yield piece
        found = Footer(plain_bytes, body_bytes, _masked(digest.digest(), keys))
        if unpack_footer(source.exactly(FOOTER_BYTES)) != found:
            raise IntegrityError("the bytes are not what was written", key=header.key, version_id=header.version_id)

    def _readable(self, store: Store, replica: Replica) -> Readable:
        header, packed, opening = _read_header(store, replica.blob, replica.blob_bytes)
        _expected(header, replica)
        body_bytes = replica.blob_bytes - len(packed) - FOOTER_BYTES
        if body_bytes < 0:
            raise IntegrityError("the blob is cut off", key=header.key, blob_bytes=replica.blob_bytes)
        below: Readable = StoredBody(store, replica.blob, len(packed), body_bytes, opening[: len(packed) + body_bytes])
        for key in reversed(self._data_keys(header)):
            below = Layer(below, key, hashlib.sha256(packed).digest())
        return below


def _expected(header: BlobHeader, replica: Replica) -> BlobHeader:
    """Return the header; IntegrityError where the blob is of another version than its name says."""
    if header.version_id not in replica.blob:
        raise IntegrityError("the blob is of another version", blob=replica.blob, version_id=header.version_id)
    return header


def _read_header(store: Store, blob: str, blob_bytes: int) -> tuple[BlobHeader, bytes, bytes]:
    """Return a blob's header, its packed bytes and all that was read from the blob's beginning."""
    opening = _read(store, blob, min(HEADER_GUESS_BYTES, blob_bytes))
    needed = header_needs(opening)
    if needed > len(opening):
        opening = _read(store, blob, min(-(-needed // HEADER_STEP) * HEADER_STEP, blob_bytes))
    header = unpack_header(opening)
    return header, opening[: header.header_bytes], opening


def _read(store: Store, blob: str, length: int) -> bytes:
    with store.open(blob, start=0, end=length) as reading:
        return b"".join(reading)


def _context(key_id: str, version_id: str) -> str:
    return f"data:{key_id}:{version_id}"


def _masked(digest: bytes, data_keys: tuple[bytes, ...]) -> bytes:
    """Hide, or show again, the hash of plain bytes in an encrypted blob's footer: a known hash would betray a file."""
    if not data_keys:
        return digest
    stream = HKDF(algorithm=SHA256(), length=len(digest), salt=None, info=b"fabric footer 1").derive(
        b"".join(data_keys)
    )
    return bytes(left ^ right for left, right in zip(digest, stream, strict=True))
