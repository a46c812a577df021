"""Reads one version of an object from its store as docs/design/format.md says, and imports nothing of the fabric.

    python -I foreign_client.py BLOB_FILE [EXPORTED_KEY_FILE]

Prints one JSON line: key, version_id, suite, plain_bytes and the SHA-256 of the plain bytes that it read.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tink import proto_keyset_format, secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

STREAM_TYPE = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
WRAPPED_BYTES = {"none": [], "standard": [44], "enhanced": [60], "military": [60, 60]}
SEGMENT_BYTES = 65536


def plain_bytes(blob: bytes, exported: dict[str, str] | None) -> tuple[dict[str, Any], bytes]:
    """Return the header's message and the plain bytes of a blob."""
    assert blob[:8] == b"FABRIC1\n"
    header = msgspec.msgpack.decode(blob[12 : 12 + int.from_bytes(blob[8:12], "little")])
    start = header["header_bytes"]
    body, footer = blob[start:-64], blob[-64:]
    assert footer[48:56] == b"FABRICF1"
    assert int.from_bytes(footer[8:16], "little") == len(body)
    associated = hashlib.sha256(blob[:start]).digest()
    for key in reversed(data_keys(header, exported)):
        with stream(key).new_decrypting_stream(io.BytesIO(body), associated) as opened:
            body = opened.read()
    assert int.from_bytes(footer[:8], "little") == len(body)
    return header, body


def data_keys(header: dict[str, Any], exported: dict[str, str] | None) -> list[bytes]:
    """Unwrap the data keys of a version with the exported object keys."""
    sizes, wrapped, keys = WRAPPED_BYTES[header["suite"]], header["wrapped_key"], []
    if not sizes:
        return []
    assert exported is not None, "this version is encrypted: give the exported key"
    assert exported["key_id"] == header["key_id"]
    context = f"data:{header['key_id']}:{header['version_id']}".encode()
    for size, name in zip(sizes, ("object_key", "second_object_key"), strict=False):
        one, wrapped = wrapped[:size], wrapped[size:]
        keys.append(AESGCM(base64.b64decode(exported[name])).decrypt(one[:12], one[12:], context))
    return keys


def stream(key: bytes) -> Any:
    """Return Tink's streaming primitive for one data key."""
    parameters = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT_BYTES, derived_key_size=len(key), hkdf_hash_type=common_pb2.SHA256
    )
    value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, params=parameters, key_value=key)
    data = tink_pb2.KeyData(
        type_url=STREAM_TYPE, value=value.SerializeToString(), key_material_type=tink_pb2.KeyData.SYMMETRIC
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(key_data=data, status=tink_pb2.ENABLED, key_id=1, output_prefix_type=tink_pb2.RAW)
    handle = proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


def main(arguments: list[str]) -> None:
    streaming_aead.register()
    exported = json.loads(Path(arguments[1]).read_text()) if len(arguments) > 1 else None
    header, plain = plain_bytes(Path(arguments[0]).read_bytes(), exported)
    assert not [name for name in sys.modules if name.partition(".")[0] == "fabric"]
    facts = {name: header[name] for name in ("key", "version_id", "suite")}
    facts |= {"plain_bytes": len(plain), "sha256": hashlib.sha256(plain).hexdigest()}
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
