"""Who may learn from whom: a source of another namespace must say so itself. Pure."""

from __future__ import annotations

from fedloom.api.transfer import ALLOWED_ANNOTATION


def allows(annotation: str, namespace: str, own: str) -> str:
    """Say why a source of `namespace` may not be used by a job of `own`; empty where it may.

    `annotation` is the source's: namespaces with commas, or `*`.
    """
    allowed = {each.strip() for each in annotation.split(",")}
    if namespace == own or "*" in allowed or own in allowed:
        return ""
    got = f"only {annotation!r}" if annotation else "no namespace"
    return (
        f"it is of namespace {namespace!r} and allows {got}: expected {own!r} in its annotation "
        f"{ALLOWED_ANNOTATION}"
    )
