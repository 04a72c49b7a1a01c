"""An S3 server that cannot be reached, or will not: each call says which, where, and no secret."""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import minio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from minio.credentials import StaticProvider

from fedloom.artifacts.retry import RetryPolicy
from fedloom.artifacts.s3 import S3Credentials, S3Store
from fedloom.artifacts.transfer import Transfer
from fedloom.errors import ArtifactError, JobError, StoreUnavailableError

PART_BYTES = 5 << 20
BIG = bytes(2 * PART_BYTES + 12345)
SECRET = "not-the-right-secret"
ALL_CALLS = {
    "put": lambda store, folder: store.put("k", b"x"),
    "put big": lambda store, folder: store.put("big", BIG),
    "put file": lambda store, folder: store.put_file("k", Path(__file__)),
    "get": lambda store, folder: store.get("k"),
    "materialize": lambda store, folder: store.materialize("k", folder),
    "read": lambda store, folder: store.read("k", 0, 1),
    "read nothing": lambda store, folder: store.read("k", 0, 0),
    "exists": lambda store, folder: store.exists("k"),
    "list": lambda store, folder: store.list(""),
    "delete": lambda store, folder: store.delete("k"),
}
every_call = pytest.mark.parametrize("call", ALL_CALLS.values(), ids=ALL_CALLS.keys())


@every_call
def test_a_server_that_only_stalls_is_unavailable(proxy, minio_server, s3_bucket, call, tmp_path):
    impatient = RetryPolicy(attempts=3, sleep=lambda seconds: None)
    store = S3Store(
        proxy.endpoint,
        s3_bucket,
        "",
        S3Credentials(minio_server.access_key, minio_server.secret_key),
        transfer=Transfer(impatient, read_timeout_seconds=0.05, part_bytes=PART_BYTES),
    )
    proxy.plan(" /", "stall", times=99)
    with pytest.raises(StoreUnavailableError, match="tried 3 times") as caught:
        call(store, tmp_path)
    assert proxy.endpoint in str(caught.value)
    assert caught.value.retry_after_seconds > 0


@every_call
def test_a_refused_port_is_unavailable(call, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    store = S3Store(
        endpoint,
        "bucket",
        "",
        S3Credentials("somebody", SECRET),
        transfer=Transfer(retry=RetryPolicy(sleep=lambda seconds: None)),
    )
    with pytest.raises(StoreUnavailableError, match="tried 5 times") as caught:
        call(store, tmp_path)
    assert endpoint in str(caught.value)
    assert SECRET not in str(caught.value)


@every_call
@pytest.mark.parametrize("is_known", [True, False], ids=["wrong secret", "unknown user"])
def test_wrong_credentials_are_denied_at_once(minio_server, s3_bucket, call, is_known, tmp_path):
    access_key = minio_server.access_key if is_known else "somebody"
    pauses: list[float] = []
    store = S3Store(
        minio_server.endpoint,
        s3_bucket,
        "",
        S3Credentials(access_key, SECRET),
        transfer=Transfer(retry=RetryPolicy(sleep=pauses.append), part_bytes=PART_BYTES),
    )
    with pytest.raises(JobError) as caught:
        call(store, tmp_path)
    assert caught.value.reason == "StoreDenied"
    assert minio_server.endpoint in str(caught.value)
    assert s3_bucket in str(caught.value)
    assert SECRET not in str(caught.value) + repr(store) + repr(caught.value)
    assert pauses == []


def test_who_may_write_but_not_delete_is_told_so(minio_server, s3_bucket):
    prefix = f"refusals/{secrets.token_hex(8)}"
    writer = _writer_without_deletion(minio_server, s3_bucket)
    store = S3Store(minio_server.endpoint, s3_bucket, prefix, writer)
    store.put("k", b"x")
    with pytest.raises(JobError, match="AccessDenied") as caught:
        store.delete("k")
    assert caught.value.reason == "StoreDenied"
    assert store.get("k") == b"x"


def _writer_without_deletion(server, bucket) -> S3Credentials:
    name, secret = secrets.token_hex(8), secrets.token_hex(16)
    provider = StaticProvider(server.access_key, server.secret_key)
    admin = minio.MinioAdmin(endpoint=server.endpoint, credentials=provider, secure=False)
    actions = ["s3:PutObject", "s3:GetObject", "s3:ListBucket"]
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    admin.policy_add(name, policy={"Version": "2012-10-17", "Statement": [statement]})
    admin.user_add(name, secret)
    admin.policy_set(name, user=name)
    return S3Credentials(name, secret)


def test_a_server_without_tls_is_unavailable_by_tls(minio_server, s3_bucket):
    store = S3Store(
        minio_server.endpoint,
        s3_bucket,
        "",
        S3Credentials(minio_server.access_key, minio_server.secret_key),
        secure=True,
        transfer=Transfer(RetryPolicy(sleep=lambda seconds: None)),
    )
    with pytest.raises(StoreUnavailableError, match="SSL"):
        store.get("k")


def test_a_certificate_of_an_unknown_authority_is_final(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate_of_nobody(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_shake_hands, args=(listener, context))
        answering.start()
        endpoint = f"127.0.0.1:{listener.getsockname()[1]}"
        store = S3Store(endpoint, "bucket", "", S3Credentials("somebody", SECRET), secure=True)
        with pytest.raises(JobError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            store.get("k")
        answering.join()
    assert caught.value.reason == "StoreDenied"


def _shake_hands(listener: socket.socket, context: ssl.SSLContext) -> None:
    connection, _ = listener.accept()
    with connection, suppress(ssl.SSLError, ConnectionError):
        context.wrap_socket(connection, server_side=True).close()


def _certificate_of_nobody(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(encoding))
    return path


@every_call
def test_a_missing_bucket_is_named(minio_server, call, tmp_path):
    credentials = S3Credentials(minio_server.access_key, minio_server.secret_key)
    store = S3Store(minio_server.endpoint, "no-such-bucket", "", credentials)
    with pytest.raises(JobError, match="no-such-bucket") as caught:
        call(store, tmp_path)
    assert caught.value.reason == "BucketNotFound"


@pytest.mark.parametrize(
    ("endpoint", "bucket"),
    [("http://host:1", "bucket"), ("host:1/path", "bucket"), ("host:1", "B"), ("host:1", "")],
)
def test_an_impossible_address_is_refused_before_any_request(endpoint, bucket):
    with pytest.raises(JobError) as caught:
        S3Store(endpoint, bucket, "", S3Credentials("somebody", SECRET))
    assert caught.value.reason == "InvalidStore"
    assert SECRET not in str(caught.value)


def test_a_key_that_the_prefix_makes_too_long_for_s3_is_refused(minio_server, s3_bucket):
    credentials = S3Credentials(minio_server.access_key, minio_server.secret_key)
    store = S3Store(minio_server.endpoint, s3_bucket, "p" * 199, credentials)
    with pytest.raises(ArtifactError, match="with the store's prefix"):
        store.put("/".join(["k" * 149] * 6), b"")


def test_credentials_do_not_show_their_secrets():
    shown = repr(S3Credentials("somebody", SECRET, "token-of-a-session"))
    assert "somebody" in shown
    assert SECRET not in shown
    assert "token-of-a-session" not in shown
