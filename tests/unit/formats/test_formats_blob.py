from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.core.errors import BadInputError, CorruptError, IntegrityError
from fabric.core.words import Classification, ObjectPolicy, Suite
from fabric.formats import blob
from fabric.formats.blob import BlobHeader, Draft, Footer

DRAFT = Draft("a/b", "01hxyz", 1.5, ("engine", 3), {"engine": 3, "other": 1}, ObjectPolicy(), key_id="k1")


def header(**fields: object) -> BlobHeader:
    return msgspec.structs.replace(blob.header_of(DRAFT, Suite.STANDARD, b"w" * 44), **fields)


@settings(max_examples=100, deadline=None)
@given(
    key=st.text(min_size=1, max_size=300),
    metadata=st.dictionaries(st.text(max_size=50), st.text(max_size=200), max_size=20),
    kind=st.sampled_from(Classification),
)
def test_a_header_comes_back_as_it_was_and_ends_on_a_step(
    key: str, metadata: dict[str, str], kind: Classification
) -> None:
    made = header(key=key, metadata=metadata, policy=ObjectPolicy(kind))
    packed = blob.pack_header(made)
    assert len(packed) % blob.HEADER_STEP == 0
    assert blob.unpack_header(packed + b"body") == msgspec.structs.replace(made, header_bytes=len(packed))


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.binary(min_size=32, max_size=32))
def test_a_footer_comes_back_as_it_was(plain: int, body: int, digest: bytes) -> None:
    packed = blob.pack_footer(Footer(plain, body, digest))
    assert len(packed) == blob.FOOTER_BYTES
    assert blob.unpack_footer(packed) == Footer(plain, body, digest)


def test_every_flipped_bit_of_a_footer_is_found() -> None:
    packed = blob.pack_footer(Footer(1, 2, bytes(32)))
    for at in range(blob.FOOTER_BYTES):
        with pytest.raises(CorruptError):
            blob.unpack_footer(packed[:at] + bytes([packed[at] ^ 4]) + packed[at + 1 :])


@given(st.binary(max_size=600))
def test_rubbish_is_called_corrupt_whatever_it_is(data: bytes) -> None:
    with pytest.raises(CorruptError):
        blob.unpack_header(data)
    with pytest.raises(CorruptError):
        blob.unpack_header(blob.MAGIC + data)


def test_a_damaged_or_short_header_is_called_corrupt() -> None:
    packed = blob.pack_header(header())
    used = blob.header_needs(packed)
    for cut in range(0, used, 7):
        with pytest.raises(CorruptError):
            blob.unpack_header(packed[:cut])
    with pytest.raises(CorruptError):
        blob.unpack_footer(b"short")


def test_a_header_of_a_newer_format_names_the_release() -> None:
    with pytest.raises(CorruptError, match="newer"):
        blob.unpack_header(blob.pack_header(header(format=blob.FORMAT + 1)))


def test_metadata_without_bound_is_refused() -> None:
    with pytest.raises(BadInputError):
        blob.pack_header(header(metadata={"x": "y" * blob.HEADER_MOST}))


def test_a_plain_blob_names_no_key() -> None:
    assert blob.header_of(DRAFT, Suite.NONE, b"").key_id == ""
    assert blob.blob_key("01hxyz") == "objects/yz/01hxyz"
    assert issubclass(CorruptError, IntegrityError)
