"""Real S3 servers that a demo starts for itself, where they are installed: SeaweedFS and moto, on free local ports."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fabric.core.errors import UnavailableError

READY_SECONDS = 30.0
POLL_SECONDS = 0.1
STOP_SECONDS = 2.0
BUCKET, ACCESS, SECRET = "demo", "demo-access", "demo-secret-key"
WANTED = 2
WEED_PORTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server with an empty bucket."""

    kind: str
    endpoint: str
    pid: int

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}?endpoint={self.endpoint}"

    def client(self) -> Any:
        """Return a plain client of the server, which knows nothing of the fabric."""
        from botocore.config import Config
        from botocore.session import get_session

        return get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 0}, connect_timeout=2, read_timeout=5),
        )


@contextmanager
def servers() -> Iterator[list[Server]]:
    """Run two servers, of two kinds where both are installed; none where none is."""
    kinds = [kind for kind, known in (("seaweedfs", _weed()), ("moto", importlib.util.find_spec("moto"))) if known]
    wanted = (kinds * WANTED)[:WANTED]
    with ExitStack() as started, tempfile.TemporaryDirectory(prefix="fabric-servers-") as folder:
        found = []
        for number, kind in enumerate(wanted):
            own = Path(folder, str(number))
            own.mkdir()
            port, command = _seaweedfs(own) if kind == "seaweedfs" else _moto()
            process = started.enter_context(_running(command, own))
            found.append((Server(kind, f"http://127.0.0.1:{port}", process.pid), process))
        for server, process in found:
            _wait_ready(server, process)
        yield [server for server, _ in found]


def _weed() -> str | None:
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


def _moto() -> tuple[int, list[str]]:
    (port,) = _free_ports(1)
    return port, [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


def _seaweedfs(folder: Path) -> tuple[int, list[str]]:
    """Return the port of its S3 gateway and its command line; telemetry is off."""
    weed = _weed()
    assert weed is not None
    ports = _free_ports(2 * len(WEED_PORTS))
    credentials = [{"accessKey": ACCESS, "secretKey": SECRET}]
    admin = {"name": "admin", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [admin]}))
    command = [weed, f"-logdir={folder}", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=40", "-s3", "-filer"]
    command += [f"-{name}.port={port}" for name, port in zip(WEED_PORTS, ports, strict=False)]
    command += [f"-{name}.port.grpc={port}" for name, port in zip(WEED_PORTS, ports[len(WEED_PORTS) :], strict=True)]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", f"-s3.config={config}"]
    command += [f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock"]
    return ports[WEED_PORTS.index("s3")], command


def _free_ports(many: int) -> list[int]:
    with ExitStack() as opened:
        listeners = [opened.enter_context(socket.socket()) for _ in range(many)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]


@contextmanager
def _running(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends, its output in the folder."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server has kept an object and given it back."""
    ends = time.monotonic() + READY_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        if _keeps(server):
            return
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    raise UnavailableError("a server that the demo started does not answer", kind=server.kind, hint="try again")


def _keeps(server: Server) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    client = server.client()
    try:
        if all(found["Name"] != BUCKET for found in client.list_buckets()["Buckets"]):
            client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
        kept: bytes = client.get_object(Bucket=BUCKET, Key="ready")["Body"].read()
        client.delete_object(Bucket=BUCKET, Key="ready")
    except (BotoCoreError, ClientError):
        return False
    return kept == b"ready"
