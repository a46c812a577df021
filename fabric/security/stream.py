"""AES-GCM-HKDF streaming encryption, byte for byte as Tink publishes it.

A ciphertext is: one byte header length, a salt as long as the key, a 7-byte nonce prefix; then segments of 64 KiB
(the first is shorter by the header), each ended by a 16-byte tag. The key of the segments is
HKDF-SHA256(key, salt, info = associated data); a segment's nonce is prefix, segment number (u32 big endian) and one
byte that is 1 in the last segment, so that segments can be neither reordered nor cut off unseen.

Source: Tink, AES-GCM-HKDF Streaming AEAD, https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming;
Hoang, Reyhanitabar, Rogaway and Vizar, Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, 2015.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fabric.core.errors import IntegrityError, TooLargeError

SEGMENT_BYTES = 64 << 10
TAG_BYTES = 16
PREFIX_BYTES = 7
BLOCK_SEGMENTS = 16  # segments worked through at a time: 1 MiB of memory in, 1 MiB out
SEGMENTS_MOST = 1 << 32

Chunk = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Layout:
    """Where plain bytes lie in the ciphertext of one key length (16 or 32 bytes)."""

    key_bytes: int

    @property
    def header_bytes(self) -> int:
        return 1 + self.key_bytes + PREFIX_BYTES

    def plain_start(self, segment: int) -> int:
        """Return the first plain byte of ``segment``."""
        return 0 if segment == 0 else segment * (SEGMENT_BYTES - TAG_BYTES) - self.header_bytes

    def cipher_start(self, segment: int) -> int:
        """Return the first ciphertext byte of ``segment``; the stream's header lies before that of segment 0."""
        return self.header_bytes if segment == 0 else segment * SEGMENT_BYTES

    def segment_of(self, plain_byte: int) -> int:
        """Return the segment that holds the plain byte at this offset."""
        return (plain_byte + self.header_bytes) // (SEGMENT_BYTES - TAG_BYTES)

    def segments(self, plain_bytes: int) -> int:
        """Return how many segments ``plain_bytes`` take; one even for none."""
        return self.segment_of(plain_bytes - 1) + 1 if plain_bytes else 1

    def cipher_bytes(self, plain_bytes: int) -> int:
        """Return the length of the ciphertext of ``plain_bytes``."""
        return self.header_bytes + plain_bytes + self.segments(plain_bytes) * TAG_BYTES

    def plain_bytes(self, cipher_bytes: int) -> int:
        """Return how many plain bytes a ciphertext of this length holds; IntegrityError for an impossible length."""
        segments = max(1, -(-cipher_bytes // SEGMENT_BYTES))
        plain = cipher_bytes - self.header_bytes - segments * TAG_BYTES
        if plain < 0 or self.cipher_bytes(plain) != cipher_bytes:
            raise IntegrityError("the ciphertext is cut off", body_bytes=cipher_bytes)
        return plain


def encrypted(key: bytes, associated: bytes, chunks: Iterable[Chunk]) -> Iterator[memoryview]:
    """Encrypt ``chunks`` under ``key``; yields pieces of at most 1 MiB, each its own memory.

    Args:
        key: 16 or 32 fresh random bytes, used for this one stream.
        associated: bytes that the reader must present again.
    """
    layout = Layout(len(key))
    salt, prefix = secrets.token_bytes(len(key)), secrets.token_bytes(PREFIX_BYTES)
    yield memoryview(bytes([layout.header_bytes]) + salt + prefix)
    cipher, segment = _cipher(key, salt, associated), 0
    for block, last in _blocks(chunks, layout.plain_start(BLOCK_SEGMENTS), BLOCK_SEGMENTS, SEGMENT_BYTES - TAG_BYTES):
        if segment + BLOCK_SEGMENTS > SEGMENTS_MOST:
            raise TooLargeError("the object is too large for one stream", segments=SEGMENTS_MOST)
        yield _encrypt_block(cipher, prefix, layout, block, segment, last=last)
        segment += BLOCK_SEGMENTS


def _encrypt_block(
    cipher: AESGCM, prefix: bytes, layout: Layout, block: memoryview, first: int, *, last: bool
) -> memoryview:
    base = layout.plain_start(first)
    count = layout.segment_of(base + max(len(block), 1) - 1) - first + 1
    out = memoryview(bytearray(len(block) + count * TAG_BYTES))
    at = 0
    for segment in range(first, first + count):
        begin, end = layout.plain_start(segment) - base, layout.plain_start(segment + 1) - base
        piece = block[begin:end]
        nonce = _nonce(prefix, segment, last=last and segment == first + count - 1)
        at += cipher.encrypt_into(nonce, piece, None, out[at : at + len(piece) + TAG_BYTES])
    return out


def decrypted(
    key: bytes,
    associated: bytes,
    stream_header: bytes,
    chunks: Iterable[Chunk],
    *,
    first: int = 0,
    segments: int,
) -> Iterator[memoryview]:
    """Decrypt the ciphertext from segment ``first`` on; yields pieces of at most 1 MiB, each its own memory.

    Args:
        stream_header: the first `Layout.header_bytes` of the ciphertext.
        chunks: the ciphertext from `Layout.cipher_start` (first) on, up to the end of any later segment.
        segments: how many the whole ciphertext has; it tells which is the last.

    Raises:
        IntegrityError: a tag does not fit: damaged, reordered, cut off, another key or other associated data.
            What was yielded before is authentic.
    """
    layout = Layout(len(key))
    if len(stream_header) != layout.header_bytes or stream_header[0] != layout.header_bytes:
        raise IntegrityError("the ciphertext does not begin as it must")
    salt, prefix = stream_header[1 : 1 + len(key)], stream_header[1 + len(key) :]
    cipher, segment = _cipher(key, salt, associated), first
    opening = layout.cipher_start(first + BLOCK_SEGMENTS) - layout.cipher_start(first)
    for block, _ in _blocks(chunks, opening, BLOCK_SEGMENTS, SEGMENT_BYTES):
        yield _decrypt_block(cipher, prefix, layout, block, first=segment, segments=segments)
        segment += BLOCK_SEGMENTS


def _decrypt_block(
    cipher: AESGCM, prefix: bytes, layout: Layout, block: memoryview, *, first: int, segments: int
) -> memoryview:
    base = layout.cipher_start(first)
    count = (base + max(len(block), 1) - 1) // SEGMENT_BYTES - first + 1
    if len(block) < count * TAG_BYTES:
        raise IntegrityError("the ciphertext is cut off", segment=first)
    out = memoryview(bytearray(len(block) - count * TAG_BYTES))
    at = 0
    for segment in range(first, first + count):
        piece = block[layout.cipher_start(segment) - base : layout.cipher_start(segment + 1) - base]
        nonce = _nonce(prefix, segment, last=segment == segments - 1)
        at += _open_segment(cipher, nonce, piece, out[at : at + len(piece) - TAG_BYTES], segment)
    return out.toreadonly()  # its own memory: whoever holds a piece need not copy it


def _open_segment(cipher: AESGCM, nonce: bytes, piece: memoryview, out: memoryview, segment: int) -> int:
    if len(piece) < TAG_BYTES:
        raise IntegrityError("the ciphertext is cut off", segment=segment)
    try:
        return cipher.decrypt_into(nonce, piece, None, out)
    except InvalidTag as error:
        raise IntegrityError("the ciphertext does not authenticate", segment=segment) from error


def _blocks(chunks: Iterable[Chunk], opening: int, segments: int, step: int) -> Iterator[tuple[memoryview, bool]]:
    """Gather chunks into blocks of ``segments`` x ``step`` bytes, the first of ``opening``; say which is the last.

    The yielded memory is used again for the next block. An empty input gives one empty last block.
    """
    memory = memoryview(bytearray(segments * step))
    filled, room = 0, opening
    for chunk in chunks:
        rest = memoryview(chunk).cast("B") if not isinstance(chunk, memoryview) else chunk
        while len(rest):
            if filled == room:
                yield memory[:filled], False
                filled, room = 0, segments * step
            taken = min(len(rest), room - filled)
            memory[filled : filled + taken] = rest[:taken]
            filled, rest = filled + taken, rest[taken:]
    yield memory[:filled], True


def _cipher(key: bytes, salt: bytes, associated: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=len(key), salt=salt, info=associated).derive(key))


def _nonce(prefix: bytes, segment: int, *, last: bool) -> bytes:
    return prefix + segment.to_bytes(4, "big") + (b"\1" if last else b"\0")
