"""What several rooms' tests need: a real S3 server, and patience on a busy machine."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# A slow machine is no failure: examples have no deadline of their own, the run's timeout holds. The same
# examples every time: a change is judged by what it changed.
settings.register_profile("fedloom", deadline=None, derandomize=True)
settings.load_profile("fedloom")

REPOSITORY = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0


@dataclass(frozen=True)
class MinioServer:
    """A MinIO of our own on the loopback; `endpoint` is host:port, spoken to by plain HTTP."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def url(self) -> str:
        return f"http://{self.endpoint}"

    def client(self):
        """A plain client, for what a test does behind the store's back."""
        import minio

        return minio.Minio(
            endpoint=self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            region="us-east-1",
        )


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory) -> Iterator[MinioServer]:
    """A server for the whole test run, with random credentials and an empty data folder."""
    binary = _minio_binary()
    if binary is None:
        message = "no MinIO server: run make minio"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = tmp_path_factory.mktemp("minio")
    server = MinioServer(_free_address(), secrets.token_hex(8), secrets.token_hex(16))
    process = _start(binary, server, folder)
    try:
        _wait_until_healthy(server, process, folder / "log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_bucket(minio_server) -> str:
    """A bucket on that server; tests keep apart by their prefixes."""
    minio_server.client().make_bucket(bucket_name="fedloom-tests")
    return "fedloom-tests"


def _minio_binary() -> str | None:
    """$FEDLOOM_MINIO, else `minio` on PATH, else what `make minio` builds."""
    if named := os.environ.get("FEDLOOM_MINIO"):
        return named
    built = REPOSITORY / ".tools" / "bin" / "minio"
    return shutil.which("minio") or (str(built) if built.exists() else None)


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _start(binary: str, server: MinioServer, folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        "HOME": str(folder),  # where it would look for certificates
        "MINIO_BROWSER": "off",
        "MINIO_ROOT_USER": server.access_key,
        "MINIO_ROOT_PASSWORD": server.secret_key,
        "PATH": os.environ.get("PATH", ""),
    }
    command = [binary, "server", "--address", server.endpoint, str(folder / "data")]
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _wait_until_healthy(server: MinioServer, process: subprocess.Popen[bytes], log: Path) -> None:
    # Not /health/ready: that one answers before the server knows its users and its buckets.
    address = f"{server.url}/minio/health/cluster"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"MinIO did not start: {log.read_text(errors='replace')[-2000:]}")
