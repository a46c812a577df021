from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.core.errors import ConfigError
from fabric.security.tls import server_context

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def make(folder: Path, name: str, *extra: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert]
    subprocess.run([*command, *(extra or ("-nodes",))], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A listener that speaks what `server_context` says; yields its port and its certificate."""
    cert, key = make(tmp_path, "server")
    context = server_context(cert, key)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.sendall(b"hello")
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1], cert
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


def client(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-brief", *options]
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=20)


@needs_openssl
def test_a_tls_1_2_client_is_refused_and_a_tls_1_3_client_served(listener: tuple[int, Path]) -> None:
    port, cert = listener
    refused = client(port, "-tls1_2")
    assert refused.returncode != 0
    assert "protocol version" in refused.stderr
    served = client(port, "-tls1_3", "-CAfile", str(cert))
    assert "TLSv1.3" in served.stderr + served.stdout
    context = ssl.create_default_context(cafile=cert)
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secure,
    ):
        assert secure.version() == "TLSv1.3"
        assert secure.recv(5) == b"hello"


@needs_openssl
def test_files_that_are_missing_rubbish_locked_or_do_not_match_are_named(tmp_path: Path) -> None:
    _cert, key = make(tmp_path, "one")
    other, _ = make(tmp_path, "two")
    locked_cert, locked_key = make(tmp_path, "three", "-passout", "pass:secret")
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no pem")
    with pytest.raises(ConfigError, match=r"missing.*security.tls_cert"):
        server_context(tmp_path / "none.pem", key)
    with pytest.raises(ConfigError, match="PEM"):
        server_context(rubbish, key)
    with pytest.raises(ConfigError, match="belong together"):
        server_context(other, key)
    with pytest.raises(ConfigError, match="passphrase"):
        server_context(locked_cert, locked_key)
