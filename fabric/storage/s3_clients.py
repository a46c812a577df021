"""The S3 clients of one store, made at the first use: obstore for streams (reads are given up sooner than writes),
botocore for everything else.

Neither retries by itself: retrying is the business of one wrapper, and a repeated conditional write could meet its own
first success.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import RawIOBase
from typing import Any
from urllib.parse import urlsplit

from fabric.core.errors import ForbiddenError
from fabric.core.failing import undoing
from fabric.storage.secrets import Credentials

CONNECT_SECONDS = 5
READ_SECONDS = 60  # until a request is answered, its body sent in between: a slow line takes long
FIRST_BYTE_SECONDS = 8  # until a read gives bytes, and between two pieces: fail-over to another copy must end in 15 s
CONNECTIONS_MOST = 32
REFRESH = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Target:
    """Which bucket, and how to reach it."""

    bucket: str
    endpoint: str = ""
    region: str = ""
    addressing: str = "auto"  # auto | path | virtual
    profile: str = ""
    credentials: Credentials | None = None

    @property
    def virtual(self) -> bool:
        return self.addressing == "virtual" or (self.addressing == "auto" and not self.endpoint)


class Clients:
    """Makes each client once; safe from many threads."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._session: Any = None
        self._boto: Any = None
        self._boto_reads: Any = None
        self._stream: Any = None
        self._reads: Any = None
        self._summed: Any = None

    @property
    def boto(self) -> Any:
        with self._lock:
            return self._make_boto()

    @property
    def boto_reads(self) -> Any:
        """Return the botocore client that only reads, as `reads`."""
        with self._lock:
            if self._boto_reads is None:
                self._boto_reads = self._make_client(FIRST_BYTE_SECONDS)
            return self._boto_reads

    @property
    def stream(self) -> Any:
        with self._lock:
            if self._stream is None:
                self._stream = self._make_stream(READ_SECONDS)
            return self._stream

    @property
    def summed(self) -> Any:
        """Return the client whose puts carry a SHA-256 that the server checks and keeps."""
        with self._lock:
            if self._summed is None:
                self._summed = self._make_stream(READ_SECONDS, checksum_algorithm="SHA256")
            return self._summed

    @property
    def reads(self) -> Any:
        """Return the client that only reads: a server that hangs costs it FIRST_BYTE_SECONDS."""
        with self._lock:
            if self._reads is None:
                self._reads = self._make_stream(FIRST_BYTE_SECONDS)
            return self._reads

    def close(self) -> None:
        with self._lock:
            for client in (self._boto, self._boto_reads):
                if client is not None:
                    client.close()
            self._boto = self._boto_reads = self._stream = self._reads = self._summed = None

    def _make_boto(self) -> Any:
        if self._boto is None:
            self._boto = self._make_client(READ_SECONDS)
            for act in ("UploadPart", "PutObject"):
                self._boto.meta.events.register_last(f"before-call.s3.{act}", _in_place)
        return self._boto

    def _make_client(self, read_seconds: float) -> Any:
        from botocore.config import Config

        target = self._target
        return self._get_session().create_client(
            "s3",
            endpoint_url=target.endpoint or None,
            region_name=target.region or self._get_session().get_config_variable("region") or "us-east-1",
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "virtual" if target.virtual else "path"},
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=CONNECT_SECONDS,
                read_timeout=read_seconds,
                max_pool_connections=CONNECTIONS_MOST,
            ),
        )

    def _get_session(self) -> Any:
        if self._session is None:
            import botocore.session

            self._session = botocore.session.Session(profile=self._target.profile or None)
            if self._target.credentials is not None:
                self._session.set_credentials(self._target.credentials.access_key, self._target.credentials.secret_key)
        return self._session

    def _make_stream(self, read_seconds: float, **more: str) -> Any:
        from obstore.store import S3Store as Obstore

        target = self._target
        options: dict[str, Any] = {**more, **({"endpoint": self._stream_endpoint()} if target.endpoint else {})}
        return Obstore(
            target.bucket,
            region=self._region(),
            virtual_hosted_style_request=target.virtual,
            unsigned_payload=True,
            credential_provider=self._credential,
            client_options={
                "allow_http": True,
                "connect_timeout": f"{CONNECT_SECONDS}s",
                "read_timeout": f"{read_seconds}s",
                "timeout": "7d",  # of a whole read: a large object may take long
                "pool_max_idle_per_host": str(CONNECTIONS_MOST),
            },
            retry_config={"max_retries": 0},
            **options,
        )

    def _stream_endpoint(self) -> str:
        """Return the endpoint as obstore wants it: with the bucket in the host when that is the style."""
        if not self._target.virtual:
            return self._target.endpoint
        parts = urlsplit(self._target.endpoint)
        return parts._replace(netloc=f"{self._target.bucket}.{parts.netloc}").geturl()

    def _region(self) -> str:
        """Return the bucket's region: as set, else what the server says, else the usual one."""
        if self._target.region or self._target.endpoint:
            return self._target.region or "us-east-1"
        from botocore.exceptions import ClientError

        try:
            answer = self._make_boto().head_bucket(Bucket=self._target.bucket)
        except ClientError as error:
            answer = error.response  # a refusal names the region too
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return str(headers.get("x-amz-bucket-region", "us-east-1"))

    def _credential(self) -> Any:
        found = self._get_session().get_credentials()
        if found is None:
            hint = "set AWS_PROFILE, or profile or credentials of the store"
            raise ForbiddenError("no credentials were found", hint=hint, bucket=self._target.bucket)
        frozen = found.get_frozen_credentials()
        expires = datetime.now(UTC) + REFRESH if hasattr(found, "refresh_needed") else None
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": expires,
        }


class InPlace(RawIOBase):
    """Bytes sent from where they lie: botocore takes bytes, which would be a copy, or what has a ``read``.

    They are the fabric's own, which hashes and proves them itself, and stay out of the signature, as with obstore.

    Attributes:
        body: all of them, or pieces of them as they come.
        failure: what the pieces raised; botocore hides it in an error of its own.
    """

    def __init__(self, body: memoryview | Iterable[bytes | memoryview]) -> None:
        self.body = body if isinstance(body, memoryview) else self._watched(body)
        self.failure: Exception | None = None

    def _watched(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        with undoing(self._keep):
            yield from pieces

    def _keep(self) -> None:
        error = sys.exception()
        self.failure = error if isinstance(error, Exception) else None  # else nobody wants the rest


def _in_place(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    """Give the bytes themselves to what sends; nobody is asked first whether they may come, as a stream's reader is."""
    if isinstance(params["body"], InPlace):
        params["body"] = params["body"].body
        params["headers"].pop("Expect", None)
        given = context["client_config"]
        unsigned = type(given)(s3={**given.s3, "payload_signing_enabled": False})
        context["client_config"] = given.merge(unsigned)
