from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

import msgspec
import pytest
import tink
from security_fakes import CountingStore, draft, key_table, random_bytes, stored
from tink import aead, secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, aes_gcm_pb2, common_pb2, tink_pb2

from fabric.catalog.heads import Replica
from fabric.core.errors import CorruptError, IntegrityError, NotFoundError, RangeError
from fabric.core.words import Classification, Suite
from fabric.formats.blob import FOOTER_BYTES
from fabric.security.keys import KeyTable
from fabric.security.vault import Vault

ENCRYPTED = [Suite.STANDARD, Suite.ENHANCED, Suite.MILITARY]
PLAIN_SEGMENT = 65536 - 16
SIZES = [0, 1, 65480, 65495, 65496, 65497, PLAIN_SEGMENT * 2 - 24, PLAIN_SEGMENT * 16 - 24, 3_000_000]


@pytest.fixture
def keys(tmp_path: Path) -> KeyTable:
    return key_table(tmp_path)


def whole(vault: Vault, store: CountingStore, replica: Replica) -> bytes:
    with vault.unseal(store, replica) as chunks:
        return b"".join(chunks)


@pytest.mark.parametrize("suite", list(Suite))
@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_comes_back_byte_for_byte(keys: KeyTable, suite: Suite, size: int) -> None:
    vault, store, data = Vault(keys), CountingStore(), random_bytes(size)
    replica = stored(vault, store, draft(keys), suite, data)
    assert whole(vault, store, replica) == data


@pytest.mark.parametrize("suite", list(Suite))
def test_any_range_is_the_same_as_the_slice_of_the_whole(keys: KeyTable, suite: Suite) -> None:
    vault, store, data = Vault(keys), CountingStore(), random_bytes(2_500_000)
    replica = stored(vault, store, draft(keys), suite, data)
    spans = [(0, 1), (0, 65496), (65495, 65497), (1_000_000, 1_000_001), (123_456, 1_654_321), (2_499_999, 2_500_000)]
    for start, end in spans:
        with vault.unseal(store, replica, start=start, end=end) as chunks:
            assert b"".join(chunks) == data[start:end]
    with vault.unseal(store, replica, start=2_400_000) as chunks:
        assert b"".join(chunks) == data[2_400_000:]
    with vault.unseal(store, replica, start=2_500_000, end=9_000_000) as chunks:
        assert b"".join(chunks) == b""


@pytest.mark.parametrize(("suite", "segments"), [(Suite.STANDARD, 1), (Suite.ENHANCED, 1), (Suite.MILITARY, 4)])
def test_a_small_range_of_a_large_object_reads_only_the_segments_that_hold_it(
    keys: KeyTable, suite: Suite, segments: int
) -> None:
    vault, store = Vault(keys), CountingStore()
    replica = stored(vault, store, draft(keys), suite, random_bytes(5_000_000))
    store.bytes_read = 0
    with vault.unseal(store, replica, start=3_000_000, end=3_000_100) as chunks:
        assert len(b"".join(chunks)) == 100
    assert store.bytes_read <= 4096 + segments * 65536
    assert store.requests <= 3 + 1


def test_a_range_beyond_the_object_is_refused_with_its_size(keys: KeyTable) -> None:
    vault, store = Vault(keys), CountingStore()
    replica = stored(vault, store, draft(keys), Suite.STANDARD, b"abc")
    with pytest.raises(RangeError) as caught, vault.unseal(store, replica, start=4, end=9):
        pass
    assert caught.value.size_bytes == 3


@pytest.mark.item(77, 89)
@pytest.mark.parametrize("suite", ENCRYPTED)
def test_no_stored_byte_string_betrays_the_plain_text_or_its_hash(keys: KeyTable, suite: Suite) -> None:
    vault, store, data = Vault(keys), CountingStore(), b"the patient's name is Ada Lovelace. " * 9000
    stored(vault, store, draft(keys), suite, data)
    blob = b"".join(store.blobs.values())
    assert b"Ada Lovelace" not in blob
    assert hashlib.sha256(data).digest() not in blob


@pytest.mark.parametrize("suite", list(Suite))
def test_any_flipped_bit_of_a_blob_is_found_by_a_whole_read(keys: KeyTable, suite: Suite) -> None:
    vault, store, data = Vault(keys), CountingStore(), random_bytes(200_000)
    replica = stored(vault, store, draft(keys), suite, data)
    good = store.blobs[replica.blob]
    for at in [
        0,
        9,
        40,
        200,
        511,
        512,
        513,
        540,
        70_000,
        199_000,
        len(good) - 70,
        len(good) - 60,
        len(good) - 40,
        len(good) - 1,
    ]:
        if suite is Suite.NONE and 12 <= at < 512:
            continue  # a plain header is authenticated by the head's blob hash, not by a cipher
        store.blobs[replica.blob] = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises((IntegrityError, NotFoundError)):
            whole(vault, store, replica)


@pytest.mark.parametrize("suite", list(Suite))
def test_a_blob_that_is_cut_off_anywhere_is_refused(keys: KeyTable, suite: Suite) -> None:
    vault, store, data = Vault(keys), CountingStore(), random_bytes(200_000)
    replica = stored(vault, store, draft(keys), suite, data)
    good = store.blobs[replica.blob]
    for length in [0, 5, 100, 512, 600, 66_048, len(good) - FOOTER_BYTES, len(good) - 1]:
        store.blobs[replica.blob] = good[:length]
        with pytest.raises(IntegrityError):
            whole(vault, store, replica)


def test_a_body_under_another_versions_header_is_refused(keys: KeyTable) -> None:
    vault, store = Vault(keys), CountingStore()
    mine, other = draft(keys), draft(keys)
    replica = stored(vault, store, mine, Suite.STANDARD, b"mine" * 1000)
    foreign = stored(vault, store, other, Suite.STANDARD, b"them" * 1000)
    store.blobs[replica.blob] = store.blobs[replica.blob][:512] + store.blobs[foreign.blob][512:]
    with pytest.raises(IntegrityError):
        whole(vault, store, replica)
    store.blobs[replica.blob] = store.blobs[foreign.blob]
    with pytest.raises(IntegrityError):
        whole(vault, store, replica)


@pytest.mark.item(78, 79)
@pytest.mark.parametrize("suite", list(Suite))
def test_header_and_footer_say_what_was_sealed(keys: KeyTable, suite: Suite) -> None:
    vault, store, data = Vault(keys), CountingStore(), random_bytes(100_000)
    made = draft(keys, metadata={"owner": "Zoë"}, content_type="text/plain", priced_bytes=64_000_00)
    replica = stored(vault, store, made, suite, data)
    header, footer = vault.header(store, replica.blob)
    assert header.suite is suite
    assert header.draft() == (made if suite is not Suite.NONE else msgspec.structs.replace(made, key_id=""))
    assert (footer.plain_bytes, footer.sha256) == (len(data), hashlib.sha256(data).digest())


def test_a_move_into_another_zone_reseals_without_holding_the_object(keys: KeyTable) -> None:
    vault, store, data = Vault(keys), CountingStore(), random_bytes(1_000_000)
    made = draft(keys)
    replica = stored(vault, store, made, Suite.STANDARD, data)
    target = CountingStore("cloud")
    sealed = vault.reseal(store, replica, made, Suite.ENHANCED)
    target.keep(replica.blob, sealed)
    moved = Replica("cloud/standard", replica.blob, Suite.ENHANCED, sealed.blob_bytes, sealed.blob_sha256)
    assert whole(vault, target, moved) == data
    assert vault.header(target, replica.blob)[0].suite is Suite.ENHANCED


@pytest.mark.parametrize("suite", ENCRYPTED)
def test_after_the_key_is_shredded_no_replica_of_any_version_can_be_read(
    keys: KeyTable, tmp_path: Path, suite: Suite
) -> None:
    vault, store = Vault(keys), CountingStore()
    replicas = [stored(vault, store, draft(keys), suite, b"secret" * 99) for _ in range(3)]
    key_id = keys.key_id_of("film")
    assert key_id is not None
    vault.shred(key_id)
    for replica in replicas:
        with pytest.raises(NotFoundError, match="destroyed"):
            whole(vault, store, replica)
    assert vault.header(store, replicas[0].blob)[1].sha256 == b""
    with pytest.raises(NotFoundError):
        vault.export_key("film")


# A foreign client: Tink and msgpack, nothing of the fabric. It follows docs/design/format.md.


def tink_primitive(type_url: str, value: bytes, kind: type) -> object:
    data = tink_pb2.KeyData(type_url=type_url, value=value, key_material_type=tink_pb2.KeyData.SYMMETRIC)
    key = tink_pb2.Keyset.Key(
        key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.OutputPrefixType.RAW
    )
    keyset = tink_pb2.Keyset(primary_key_id=1, key=[key]).SerializeToString()
    return tink.proto_keyset_format.parse(keyset, secret_key_access.TOKEN).primitive(kind)


def tink_aead(key: bytes) -> aead.Aead:
    value = aes_gcm_pb2.AesGcmKey(key_value=key).SerializeToString()
    return tink_primitive("type.googleapis.com/google.crypto.tink.AesGcmKey", value, aead.Aead)


def tink_streaming(key: bytes) -> streaming_aead.StreamingAead:
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=65536, derived_key_size=len(key), hkdf_hash_type=common_pb2.SHA256
    )
    value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(params=params, key_value=key).SerializeToString()
    url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    return tink_primitive(url, value, streaming_aead.StreamingAead)


def foreign_client(blob: bytes, exported: dict[str, str]) -> bytes:
    aead.register()
    streaming_aead.register()
    assert blob[:8] == b"FABRIC1\n"
    length = int.from_bytes(blob[8:12], "little")
    header = msgspec.msgpack.decode(blob[12 : 12 + length])
    body, footer = blob[header["header_bytes"] : -64], blob[-64:]
    assert header["key_id"] == exported["key_id"]
    context = f"data:{header['key_id']}:{header['version_id']}".encode()
    wrapped, keys = header["wrapped_key"], [exported["object_key"], exported["second_object_key"]]
    each = {"standard": [44], "enhanced": [60], "military": [60, 60]}[header["suite"]]
    data_keys = []
    for size, key in zip(each, keys, strict=False):
        data_keys.append(tink_aead(base64.b64decode(key)).decrypt(wrapped[:size], context))
        wrapped = wrapped[size:]
    associated = hashlib.sha256(blob[: header["header_bytes"]]).digest()
    for key in reversed(data_keys):
        with tink_streaming(key).new_decrypting_stream(io.BytesIO(body), associated) as stream:
            body = stream.read()
    assert int.from_bytes(footer[:8], "little") == len(body)
    return body


@pytest.mark.item(77)
@pytest.mark.parametrize("suite", ENCRYPTED)
@pytest.mark.parametrize("size", [0, 1, 65496, 1_000_000])
def test_a_foreign_client_with_an_exported_key_decrypts_with_tink_alone(
    keys: KeyTable, suite: Suite, size: int
) -> None:
    vault, store, data = Vault(keys), CountingStore(), random_bytes(size)
    replica = stored(vault, store, draft(keys), suite, data)
    exported = msgspec.json.decode(msgspec.json.encode(vault.export_key("film")))
    assert foreign_client(store.blobs[replica.blob], exported) == data


def test_keys_are_grouped_by_class_and_an_object_keeps_its_key(keys: KeyTable) -> None:
    vault = Vault(keys)
    first = vault.key_for("a", Classification.SENSITIVE)
    assert vault.key_for("a", Classification.PRIVATE) == first
    assert vault.key_for("b") != first
    assert keys.state()["class_keys"] == 2


def test_sealing_under_an_unknown_key_is_refused_before_any_byte(keys: KeyTable) -> None:
    with pytest.raises(NotFoundError):
        Vault(keys).seal(draft(keys, key_id="missing"), Suite.STANDARD, [b"x"])


def test_a_blob_of_rubbish_says_it_is_damaged(keys: KeyTable) -> None:
    store = CountingStore(blobs={"objects/aa/x": b"rubbish" * 1000})
    with pytest.raises(CorruptError):
        Vault(keys).header(store, "objects/aa/x")
