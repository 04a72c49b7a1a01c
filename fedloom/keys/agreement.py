"""Two parties agree on a key by what each of them publishes: X25519, then HKDF.

RFC 7748 (X25519), RFC 5869 (HKDF, here with SHA-256). Each key is for one purpose and one session:
both go into it, so what was agreed on for another one opens nothing here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedloom.errors import JobError

KEY_BYTES = 32
_LABEL = b"fedloom secure aggregation 1"


@dataclass(frozen=True)
class KeyPair:
    """A private key, 32 bytes that stay where they are, and the public key that belongs to it."""

    private: bytes = field(repr=False)
    public: bytes

    @classmethod
    def generate(cls) -> KeyPair:
        """Make a new one from the system's randomness."""
        return cls.of(os.urandom(KEY_BYTES))

    @classmethod
    def of(cls, private: bytes) -> KeyPair:
        """Give the pair of a private key. Raises JobError `InvalidKey` for other than 32 bytes."""
        _check_length("a private key", private)
        key = X25519PrivateKey.from_private_bytes(private)
        return cls(private, key.public_key().public_bytes_raw())

    def agree(self, public: bytes, purpose: str, session: bytes) -> bytes:
        """Give the 32 bytes that the owner of `public` gets too, from this pair's public key.

        Args:
            public: the other one's public key.
            purpose: what the key is for, the same words on both sides.
            session: what it belongs to, the same bytes on both sides.

        Raises:
            JobError: `InvalidKey`, for what is no public key, or one that agrees with everybody.
        """
        _check_length("a public key", public)
        try:
            shared = X25519PrivateKey.from_private_bytes(self.private).exchange(
                X25519PublicKey.from_public_bytes(public)
            )
        except ValueError as error:
            raise JobError("InvalidKey", "got a public key of low order, expected any other") from (
                error
            )
        return derive(shared, purpose, session)


def derive(secret: bytes, purpose: str, session: bytes) -> bytes:
    """Give 32 bytes that depend on a secret and on what they are for, and say nothing about it."""
    label = purpose.encode()
    info = b"|".join((_LABEL, str(len(label)).encode(), label, session))
    return HKDF(hashes.SHA256(), KEY_BYTES, None, info).derive(secret)


def _check_length(what: str, key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise JobError("InvalidKey", f"got {what} of {len(key)} bytes, expected {KEY_BYTES}")
