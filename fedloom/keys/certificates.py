"""Certificates of one installation: an authority of its own, and what it signs for its cloud and its edges.

X.509 (RFC 5280) with ECDSA on P-256. Who somebody is stands in one URI among the alternative names,
`fedloom://cloud/controller` or `fedloom://edge/<node>`; addresses say nothing, because edges move and sit
behind NAT. Beside it is one DNS name for each role, which a TLS client asks for instead of a host's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedloom.errors import JobError

CLOUD, EDGE = "cloud", "edge"
_SCHEME = "fedloom://"
_BACKDATED_SECONDS = 30 * 86400.0
"""Certificates are valid from before they were made: clocks of edges are behind, now and then."""


@dataclass(frozen=True)
class Identity:
    """Who somebody is: `role` is CLOUD or EDGE, `name` the node's or `controller`."""

    role: str
    name: str

    @property
    def uri(self) -> str:
        return f"{_SCHEME}{self.role}/{quote(self.name, safe='')}"

    @property
    def host(self) -> str:
        return host_of(self.role)


def host_of(role: str) -> str:
    """Give the DNS name that all certificates of a role bear."""
    return f"{role}.fedloom.internal"


@dataclass(frozen=True)
class Authority:
    """Signs. Both parts are PEM; the key is in no repr.

    Raises JobError `InvalidCertificate` where one of them is none.
    """

    certificate: bytes
    key: bytes = field(repr=False)

    @classmethod
    def generate(cls, now: float, lifetime_seconds: float) -> Authority:
        """Make a new one; `now` is Unix time."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fedloom edge link")])
        builder = (
            _begun(name, name, key.public_key(), (now, lifetime_seconds))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
        )
        certificate = builder.sign(key, hashes.SHA256())
        return cls(certificate.public_bytes(serialization.Encoding.PEM), _written(key))

    def sign(self, request: bytes, identity: Identity, now: float, seconds: float) -> bytes:
        """Sign the key of a certificate request, for the identity given: what the request says of itself
        is not looked at.

        Raises JobError `InvalidCertificateRequest` where it is none, is not signed by its own key, or
        has a key of another kind.
        """
        own, key = _read_certificate(self.certificate), _read_key(self.key)
        public = _public_key_of(request)
        uri = x509.UniformResourceIdentifier(identity.uri)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Fedloom {identity.role}")])
        both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        alternatives = x509.SubjectAlternativeName([x509.DNSName(identity.host), uri])
        builder = (
            _begun(name, own.subject, public, (now, seconds))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(alternatives, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
            )
        )
        signed = builder.sign(key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


def new_key() -> bytes:
    """Make a private key, as PEM."""
    return _written(ec.generate_private_key(ec.SECP256R1()))


def request_of(key: bytes) -> bytes:
    """Ask for a certificate of this private key; says nothing else."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(_read_key(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def is_signed_by(certificate: bytes, authority: bytes) -> bool:
    """Whether the owner of the one certificate signed the other; both PEM."""
    try:
        _read_certificate(certificate).verify_directly_issued_by(_read_certificate(authority))
    except (InvalidSignature, ValueError, TypeError, JobError):
        return False
    return True


def end_of(certificate: bytes) -> float:
    """Until when a certificate is valid, Unix time."""
    return _read_certificate(certificate).not_valid_after_utc.timestamp()


def identity_of(alternative_names: Iterable[tuple[str, str]]) -> Identity | None:
    """Whose certificate this is, from `subjectAltName` as `ssl` gives it; None where nobody's of ours."""
    for kind, value in alternative_names:
        role, _, name = value.removeprefix(_SCHEME).partition("/")
        if kind == "URI" and value.startswith(_SCHEME) and role in (CLOUD, EDGE) and name:
            return Identity(role, unquote(name))
    return None


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    valid: tuple[float, float],
) -> x509.CertificateBuilder:
    now, seconds = valid
    begin = datetime.fromtimestamp(max(0.0, now - _BACKDATED_SECONDS), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(datetime.fromtimestamp(now, UTC) + timedelta(seconds=seconds))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _public_key_of(request: bytes) -> ec.EllipticCurvePublicKey:
    try:
        read = x509.load_pem_x509_csr(request)
        key = read.public_key()
        is_signed = read.is_signature_valid
    except Exception as error:
        message = "got what is no PEM certificate request, expected one"
        raise JobError("InvalidCertificateRequest", message) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise JobError("InvalidCertificateRequest", "got another key, expected one on P-256")
    if not is_signed:
        raise JobError("InvalidCertificateRequest", "it is not signed by its own key")
    return key


def _written(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        message = "got what is no PEM private key, expected one"
        raise JobError("InvalidCertificate", message) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise JobError("InvalidCertificate", "got a key of another kind, expected one on P-256")
    return key


def _read_certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        message = "got what is no PEM certificate, expected one"
        raise JobError("InvalidCertificate", message) from error
