"""Where the url of a Dataset or a Model lies, and where a container sees it.

    /data/1/COCO                  a path of the node: its folder is mounted, `/home/data/data/1/COCO`
    s3://bucket/a.zip, https://h/a.csv    is downloaded: `/downloads/bucket/a.zip`, `/downloads/h/a.csv`
    file:, pvc:, obs:, a relative path    nobody's business here: the container is told the url as it is

The node's root is never mounted: of a path right below it, that very file or folder is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

DATA = "/home/data"
"""Where Sedna mounts the folders of a node: the node's `/data/1` is `/home/data/data/1`."""
DOWNLOADS = "/downloads"

_SCHEMES = ("s3", "http", "https")


def is_path(url: str) -> bool:
    """Whether it is a path of a node."""
    return url.startswith("/")


def is_remote(url: str) -> bool:
    """Whether it has to be downloaded."""
    scheme, mark, _ = url.partition("://")
    return bool(mark) and scheme.lower() in _SCHEMES


def path_of(url: str) -> str:
    """Give a node's path without doubled, trailing or empty parts; `/data//1/` is `/data/1`."""
    return "/" + "/".join(part for part in url.split("/") if part not in ("", "."))


def folder_of(url: str) -> str:
    """Give what is mounted for a node's path: its folder, or itself where that is the root."""
    path = path_of(url)
    return path.rpartition("/")[0] or path


def folder_to_mount(url: str, container: Mapping[str, Any]) -> str | None:
    """Give the folder that a container needs for a url; None for no path, and where it has it already."""
    if not is_path(url) or is_mounted(url, container):
        return None
    folder = folder_of(url)
    return None if DATA + folder in _mount_paths(container) else folder


def is_mounted(url: str, container: Mapping[str, Any]) -> bool:
    """Whether a container's own volumes hold a path of a node, under its own name."""
    path = path_of(url)
    return any(f"{path}/".startswith(f"{mount}/") for mount in _mount_paths(container))


def _mount_paths(container: Mapping[str, Any]) -> list[str]:
    mounts = container.get("volumeMounts") or ()
    return [str(each.get("mountPath")).rstrip("/") for each in mounts]


def download_of(url: str) -> str:
    """Give the place of a download below DOWNLOADS: `<host>/<path>`, for s3 `<bucket>/<key>`."""
    parts = urlsplit(url)
    return parts.netloc + path_of(parts.path)


def url_problem(url: str) -> str | None:
    """Say what is wrong with a url on a cluster: what was got, what was expected; None for nothing."""
    if is_remote(url):
        return _remote_problem(url)
    if not is_path(url):
        return None
    if path_of(url) == "/":
        return f"got {url!r}, expected a path below it: the root of a node is never mounted"
    return _parts_problem(url, url)


def _remote_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"got {url.partition('?')[0][:80]!r}, expected a url"
    if "@" in parts.netloc:  # not shown: it may hold a password
        return "got a url with a user in it, expected one without: a Secret holds credentials"
    url = url.partition("?")[0]  # a query may be a permission
    if parts.netloc.startswith("."):  # a part of the path where it is kept
        return f"got {url!r}, expected a host or bucket that does not begin with a dot"
    if not parts.netloc or path_of(parts.path) == "/":
        return f"got {url!r}, expected {parts.scheme}://host/path"
    if parts.scheme == "s3" and url.endswith("/"):
        return f"got {url!r}, expected one object: a folder travels as .zip or .tar.gz"
    return _parts_problem(url, parts.path)


def _parts_problem(url: str, path: str) -> str | None:
    if ".." in path.split("/"):
        return f"got {url!r}, expected a path without '..'"
    if any(not character.isprintable() for character in path):
        return f"got {url!r}, expected a path that can be printed"
    return None
