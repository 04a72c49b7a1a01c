"""S3 as a Secret names it: Sedna's annotations and entries."""

from __future__ import annotations

from fedloom.api.secret import ACCESS_KEY, SECRET_KEY, Secret
from fedloom.errors import JobError

_DEFAULT_ENDPOINT = "s3.amazonaws.com"


def endpoint_of(secret: Secret) -> str:
    """Sedna's annotations: `s3-endpoint` is a host, `s3-usehttps` "0" means http."""
    annotations = secret.metadata.annotations
    host = annotations.get("s3-endpoint", _DEFAULT_ENDPOINT)
    if "://" in host:
        return host
    scheme = "http" if annotations.get("s3-usehttps") == "0" else "https"
    return f"{scheme}://{host}"


def credentials_of(secret: Secret) -> dict[str, str]:
    try:
        return {
            "access_key": secret.data[ACCESS_KEY],
            "secret_key": secret.data[SECRET_KEY],
        }
    except KeyError as error:
        raise JobError(
            "SecretIncomplete",
            f"Secret {secret.metadata.name!r} has no key {error.args[0]}",
            "spec.transmitter.s3.credentialName",
        ) from None
