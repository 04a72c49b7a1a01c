"""TLS 1.3 between cloud and edge: who trusts whom, by certificates of the installation's own authority."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path


def server_context(certificate: bytes, key: bytes, authority: bytes) -> ssl.SSLContext:
    """For who is connected to. Others may come without a certificate: a route says what they may ask."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    return _loaded(context, certificate, key, authority)


def client_context(certificate: bytes, key: bytes, authority: bytes) -> ssl.SSLContext:
    """For who connects, and says who it is."""
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key, authority)


def stranger_context(authority: bytes) -> ssl.SSLContext:
    """For who has no certificate yet, but knows whom to trust."""
    return _trusting(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), authority)


def _loaded(
    context: ssl.SSLContext, certificate: bytes, key: bytes, authority: bytes
) -> ssl.SSLContext:
    # The library reads certificates from files only; this one is there for a moment and for us alone.
    with tempfile.TemporaryDirectory(prefix="fedloom-") as folder:
        path = Path(folder, "both.pem")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(certificate + key)
        context.load_cert_chain(path)
    return _trusting(context, authority)


def _trusting(context: ssl.SSLContext, authority: bytes) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority.decode("ascii"))
    return context
