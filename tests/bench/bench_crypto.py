"""MB/s of each suite through the vault, against a bare AESGCM loop and against Tink, in the same run.

    python tests/bench/bench_crypto.py [MIB]

Prints one JSON line. Every figure is the best of three passes over the same bytes in memory, one thread.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cryptography
import tink
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from fabric.catalog.heads import Replica
from fabric.core.clock import SystemClock
from fabric.core.ids import new_id
from fabric.core.words import ObjectPolicy, Suite
from fabric.formats.blob import Draft, blob_key
from fabric.security.keys import KeyTable
from fabric.security.roots import RootKey
from fabric.security.stream import Layout, decrypted, encrypted
from fabric.security.vault import Vault
from fabric.storage.store import ObjectInfo

PASSES = 3
CHUNK = 1 << 20
SEGMENT = 65536


def best_mb_per_second(size: int, act: Callable[[], object]) -> float:
    times = []
    for _ in range(PASSES):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
    return round(size / 1e6 / min(times), 1)


@dataclass
class Reading:
    info: ObjectInfo
    data: memoryview

    def __iter__(self) -> Iterator[memoryview]:
        return (self.data[at : at + CHUNK] for at in range(0, len(self.data), CHUNK))


class OneBlob:
    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    @contextmanager
    def open(self, key: str, *, start: int = 0, end: int | None = None, tag: str | None = None) -> Iterator[Reading]:
        yield Reading(ObjectInfo(key, len(self.blob), "", 0.0, ""), memoryview(self.blob)[start:end])


class Sink(io.BytesIO):
    def close(self) -> None:
        """Tink closes what it writes to; keep the bytes."""


def chunks(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[at : at + CHUNK] for at in range(0, len(view), CHUNK))


def drain(pieces: object) -> None:
    for _ in pieces:  # type: ignore[attr-defined]
        pass


def bare_loop(key: bytes, data: bytes) -> None:
    cipher, view = AESGCM(key), memoryview(data)
    for at in range(0, len(view), SEGMENT):
        cipher.encrypt(at.to_bytes(12, "big"), view[at : at + SEGMENT], None)


def tink_primitive(key: bytes) -> streaming_aead.StreamingAead:
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT, derived_key_size=len(key), hkdf_hash_type=common_pb2.SHA256
    )
    value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(params=params, key_value=key).SerializeToString()
    url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    data = tink_pb2.KeyData(type_url=url, value=value, key_material_type=tink_pb2.KeyData.SYMMETRIC)
    one = tink_pb2.Keyset.Key(key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    keyset = tink_pb2.Keyset(primary_key_id=1, key=[one]).SerializeToString()
    return tink.proto_keyset_format.parse(keyset, secret_key_access.TOKEN).primitive(streaming_aead.StreamingAead)


def tink_encrypt(primitive: streaming_aead.StreamingAead, data: bytes) -> None:
    with primitive.new_encrypting_stream(Sink(), b"") as stream:
        for chunk in chunks(data):
            stream.write(bytes(chunk))


def tink_decrypt(primitive: streaming_aead.StreamingAead, cipher: bytes) -> None:
    with primitive.new_decrypting_stream(io.BytesIO(cipher), b"") as stream:
        while stream.read(CHUNK):
            pass


def streams(data: bytes) -> dict[str, object]:
    """Time the cipher alone, beside its peers."""
    streaming_aead.register()
    found: dict[str, object] = {}
    for bits in (128, 256):
        key = secrets.token_bytes(bits // 8)
        cipher = b"".join(encrypted(key, b"", chunks(data)))
        layout = Layout(len(key))
        head, body, segments = cipher[: layout.header_bytes], cipher[layout.header_bytes :], layout.segments(len(data))
        primitive = tink_primitive(key)
        ours = best_mb_per_second(len(data), lambda key=key: drain(encrypted(key, b"", chunks(data))))
        back = best_mb_per_second(
            len(data),
            lambda k=key, h=head, b=body, s=segments: drain(decrypted(k, b"", h, chunks(b), segments=s)),
        )
        bare = best_mb_per_second(len(data), lambda key=key: bare_loop(key, data))
        tink_out = best_mb_per_second(len(data), lambda p=primitive: tink_encrypt(p, data))
        tink_in = best_mb_per_second(len(data), lambda p=primitive, c=cipher: tink_decrypt(p, c))
        found[f"aes{bits}"] = {
            "encrypt_mb_s": ours,
            "decrypt_mb_s": back,
            "bare_aesgcm_mb_s": bare,
            "tink_encrypt_mb_s": tink_out,
            "tink_decrypt_mb_s": tink_in,
            "encrypt_to_bare": round(ours / bare, 2),
            "encrypt_to_tink": round(ours / tink_out, 2),
            "decrypt_to_tink": round(back / tink_in, 2),
        }
    return found


def vaults(data: bytes) -> dict[str, object]:
    """Time whole blobs: hashes of plain and stored bytes, header and footer included."""
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        keys = KeyTable((Path(name) / "a", Path(name) / "b"), RootKey.fresh(), SystemClock())
        vault = Vault(keys)
        for suite in Suite:
            draft = Draft("k", new_id(1.0), 1.0, ("e", 1), {}, ObjectPolicy(), key_id=keys.key_for("k"))
            blob = b"".join(vault.seal(draft, suite, chunks(data)))
            store, replica = OneBlob(blob), Replica("s/c", blob_key(draft.version_id), suite, len(blob), "")

            def whole(store: OneBlob = store, replica: Replica = replica) -> None:
                with vault.unseal(store, replica) as pieces:  # type: ignore[arg-type]
                    drain(pieces)

            seal = best_mb_per_second(len(data), lambda d=draft, s=suite: drain(vault.seal(d, s, chunks(data))))
            found[suite.value] = {"seal_mb_s": seal, "unseal_mb_s": best_mb_per_second(len(data), whole)}
    return found


def main() -> None:
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    data = os.urandom(mib << 20)
    result = {
        "bench": "crypto",
        "machine": {"cpus": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()},
        "versions": {"cryptography": cryptography.__version__, "tink": getattr(tink, "__version__", "unknown")},
        "mib": mib,
        "sha256_mb_s": best_mb_per_second(len(data), lambda: hashlib.sha256(data).digest()),
        "streams": streams(data),
        "vault": vaults(data),
    }
    sys.stdout.write(json.dumps(result, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
