"""One managed version as one blob: header, body, footer. Pure packing; nothing here encrypts.

The header says whose bytes these are and how to open them, so that a catalog can be rebuilt from blobs alone. The
footer says how many plain and body bytes lie between and what the plain bytes hash to. `docs/design/format.md` is
the description that a foreign client is written from.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

from fabric.core.errors import BadInputError, CorruptError
from fabric.core.words import ObjectPolicy, Suite

FORMAT = 1
MAGIC = b"FABRIC1\n"
FOOTER_MARK = b"FABRICF1"
HEADER_STEP = 512  # a header's length is a multiple of this
HEADER_MOST = 256 << 10  # bytes; more metadata than that is refused
FOOTER_BYTES = 64
PREFIX_BYTES = len(MAGIC) + 4  # what must be read to learn a header's length

_LENGTH = struct.Struct("<I")
_FOOTER = struct.Struct("<QQ32s8s")
_NUMBER_MOST = 5  # bytes that msgpack takes for a header's length
_HINT = "run: python -m fabric verify; another replica of the version is used meanwhile"


class Draft(msgspec.Struct, frozen=True):
    """What is known of a version before its bytes are: everything a header says but the keys."""

    key: str
    version_id: str
    created: float  # UTC seconds
    dot: tuple[str, int]  # writer and its counter
    context: dict[str, int]
    policy: ObjectPolicy
    content_type: str = "application/octet-stream"
    metadata: dict[str, str] = {}
    priced_bytes: int = -1  # bytes that money is computed on; -1: the plain bytes
    sample: bool = False
    key_id: str = ""  # object key in the key table; "" for plain


class BlobHeader(msgspec.Struct, frozen=True):
    """The head of a blob. ``wrapped_key`` is the data key under the object key (`security/keys.py`)."""

    format: int
    key: str
    version_id: str
    created: float
    dot: tuple[str, int]
    context: dict[str, int]
    policy: ObjectPolicy
    suite: Suite
    key_id: str
    wrapped_key: bytes
    content_type: str
    metadata: dict[str, str]
    priced_bytes: int
    sample: bool
    header_bytes: int = 0  # length of the packed header; filled in by `pack_header`

    def draft(self) -> Draft:
        """Return what the version was made from, to write it again elsewhere."""
        fields = {name: getattr(self, name) for name in Draft.__struct_fields__}
        return Draft(**fields)


class Footer(msgspec.Struct, frozen=True):
    """The last 64 bytes of a blob. ``sha256`` is of the plain bytes (masked in the file where encrypted)."""

    plain_bytes: int
    body_bytes: int
    sha256: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(BlobHeader).decode
_decode_format = msgspec.msgpack.Decoder(dict[str, object]).decode


def blob_key(version_id: str) -> str:
    """Return the key inside a store under which a version's blob lies: ``objects/VV/VERSION_ID``."""
    return f"objects/{version_id[-2:]}/{version_id}"


def header_of(draft: Draft, suite: Suite, wrapped_key: bytes) -> BlobHeader:
    """Return the header of ``draft``; a plain blob names no key."""
    fields = msgspec.structs.asdict(draft) | {"key_id": draft.key_id if suite is not Suite.NONE else ""}
    return BlobHeader(format=FORMAT, suite=suite, wrapped_key=wrapped_key, **fields)


def pack_header(header: BlobHeader) -> bytes:
    """Return the header's bytes, padded with zeros to a multiple of HEADER_STEP.

    Raises:
        BadInputError: the metadata makes it longer than HEADER_MOST.
    """
    least = PREFIX_BYTES + len(_encode(header)) + _NUMBER_MOST
    length = -(-least // HEADER_STEP) * HEADER_STEP
    if length > HEADER_MOST:
        raise BadInputError("the object's metadata is too long", key=header.key, hint=f"keep it under {HEADER_MOST} B")
    body = _encode(msgspec.structs.replace(header, header_bytes=length))
    return (MAGIC + _LENGTH.pack(len(body)) + body).ljust(length, b"\0")


def header_needs(start: bytes | memoryview) -> int:
    """Return how many bytes, from the blob's first, hold the whole message of the header.

    Args:
        start: at least PREFIX_BYTES from the beginning of the blob.

    Raises:
        CorruptError: this is not a blob of the fabric, or its beginning is damaged.
    """
    if len(start) < PREFIX_BYTES or bytes(start[: len(MAGIC)]) != MAGIC:
        raise CorruptError("the blob does not begin like a version of the fabric", hint=_HINT)
    (length,) = _LENGTH.unpack_from(start, len(MAGIC))
    if length > HEADER_MOST:
        raise CorruptError("the blob's header is damaged", header_bytes=length, hint=_HINT)
    return PREFIX_BYTES + int(length)


def unpack_header(data: bytes | memoryview) -> BlobHeader:
    """Read a header from the beginning of a blob; ``data`` may be longer than it.

    Raises:
        CorruptError: damaged, cut off, or of a newer format than this release reads.
    """
    needed = header_needs(data)
    message = bytes(data[PREFIX_BYTES:needed])
    try:
        found = _decode_format(message).get("format")
        if isinstance(found, int) and found > FORMAT:
            raise CorruptError("the blob is of a newer format", hint="install a newer release", format=found)
        header = _decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptError("the blob's header is damaged", hint=_HINT) from error
    if len(message) < needed - PREFIX_BYTES or not needed <= header.header_bytes <= HEADER_MOST:
        raise CorruptError("the blob's header is damaged", hint=_HINT)
    return header


def pack_footer(footer: Footer) -> bytes:
    """Return the 64 bytes of ``footer``."""
    body = _FOOTER.pack(footer.plain_bytes, footer.body_bytes, footer.sha256, FOOTER_MARK)
    return body + _LENGTH.pack(zlib.crc32(body)) + bytes(4)


def unpack_footer(data: bytes | memoryview) -> Footer:
    """Read the last 64 bytes of a blob; CorruptError where they are damaged or cut off."""
    if len(data) != FOOTER_BYTES:
        raise CorruptError("the blob is cut off", hint=_HINT)
    plain, body, digest, _ = _FOOTER.unpack_from(data)
    footer = Footer(plain, body, digest)
    if pack_footer(footer) != data:
        raise CorruptError("the blob's footer is damaged", hint=_HINT)
    return footer
