"""Messages that only the holder of a key can read or change: AES-256-GCM (NIST SP 800-38D)."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedloom.errors import JobError

_NONCE_BYTES = 12
OVERHEAD_BYTES = _NONCE_BYTES + 16
"""How much longer a sealed message is: its nonce in front, its tag behind."""


def seal(key: bytes, message: bytes, label: bytes) -> bytes:
    """Encrypt and authenticate a message under a key of 32 bytes; `label` is bound to it, unsent."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, message, label)


def unseal(key: bytes, sealed: bytes, label: bytes) -> bytes:
    """Give the message back. Raises JobError `SealBroken` if key, label or a bit of it differs."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], label)
    except (InvalidTag, ValueError) as error:
        raise JobError(
            "SealBroken",
            f"got a message of {len(sealed)} bytes that was changed or is for somebody else",
        ) from error
