"""An endpoint behind TLS is trusted by the certificates that the controller was given, and by no others."""

from __future__ import annotations

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controller.cluster.answers import EngineUnavailableError
from controller.cluster.kfp_api import KfpApi, KfpConnection


@pytest.fixture
def certificate(tmp_path):
    """A certificate that signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kfp")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    plain = serialization.NoEncryption()
    pkcs8 = serialization.PrivateFormat.PKCS8
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, pkcs8, plain)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_a_certificate_is_taken_where_its_authority_was_given(fake_release, certificate):
    server = fake_release(2, 17, certificate=certificate)
    assert not KfpApi(KfpConnection(server.url, ca_path=certificate)).health()["multi_user"]
    with pytest.raises(EngineUnavailableError) as refused:
        KfpApi(KfpConnection(server.url)).health()
    assert refused.value.reason == "KfpUnreachable"
    assert "SSL" in str(refused.value)
