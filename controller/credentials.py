"""S3 as a Secret names it; see `fedloom.api.secret` for the names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedloom.api.secret import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, Secret
from fedloom.errors import JobError

if TYPE_CHECKING:
    from fedloom.artifacts.presigning import Presigner

_DEFAULT_ENDPOINT = "s3.amazonaws.com"


def endpoint_of(secret: Secret) -> str:
    """Give the store's address, scheme and host."""
    return _address(secret, secret.annotation("endpoint") or _DEFAULT_ENDPOINT)


def external_endpoint_of(secret: Secret) -> str:
    """Give the store's address as the edges see it; empty where the Secret names none of its own."""
    host = secret.annotation("external-endpoint")
    return _address(secret, host) if host else ""


def region_in(secret: Secret) -> str:
    """Give the region that the Secret names, or nothing."""
    return secret.annotation("region")


def credentials_of(secret: Secret) -> dict[str, str]:
    """Give `access_key`, `secret_key` and, where there is one, `session_token`.

    Raises JobError("SecretIncomplete").
    """
    if secret.lacking:
        raise JobError(
            "SecretIncomplete",
            f"Secret {secret.metadata.name!r} has no key {secret.lacking[0]}",
            "credentialName",
        )
    names = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    found = {name: secret.data[str(secret.entry_of(key))] for name, key in names.items()}
    token = secret.data.get(SESSION_TOKEN)
    return found | ({"session_token": token} if token else {})


def presigner_of(secret: Secret, url: str, endpoint: str, region: str) -> tuple[Presigner, str]:
    """Give what signs for an `s3://` url at an endpoint, and the key of its object; `region` where the
    Secret names none. Raises JobError.
    """
    from fedloom.artifacts.credentials import S3Credentials  # most runs sign nothing
    from fedloom.artifacts.presigning import Presigner

    bucket, _, key = url.removeprefix("s3://").partition("/")
    credentials = S3Credentials(**credentials_of(secret))
    return Presigner(endpoint, bucket, "", credentials, region_in(secret) or region), key.strip("/")


def _address(secret: Secret, host: str) -> str:
    if "://" in host:
        return host
    scheme = "http" if secret.annotation("usehttps") == "0" else "https"
    return f"{scheme}://{host}"
