"""Asking servers that are not ours over HTTP: addresses as people write them, redirects with suspicion."""

from __future__ import annotations

import http.client
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, cast

from fedloom.errors import JobError

_TIMEOUT_SECONDS = 60.0
_AS_WRITTEN = "%/:?#[]@!$&'()*+,;=~"


def opened(address: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    """Ask for an http(s) address; the answer is to be closed.

    Raises what urllib does, and JobError("DownloadRefused") for a redirect out of HTTP or of its encryption.
    """
    request = urllib.request.Request(address, headers=dict(headers))  # noqa: S310 (see is_remote)
    return cast("http.client.HTTPResponse", _OPENER.open(request, timeout=_TIMEOUT_SECONDS))


def public_address(url: str) -> str:
    """Give the address of what needs no credentials; of s3:// Amazon's, for objects that anybody may read."""
    if url.startswith("s3://"):
        url = url.replace("s3://", "https://s3.amazonaws.com/", 1)
    return urllib.parse.quote(url, safe=_AS_WRITTEN)  # with spaces and umlauts


def shown(url: str) -> str:
    """A url without its query, which may be a permission."""
    return url.partition("?")[0]


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = req.type, newurl.partition(":")[0].lower()
        if after not in ("https", before):
            expected = "https" if before == "https" else "http or https"
            message = f"got a redirect from {before} to {after}, expected {expected}"
            raise JobError("DownloadRefused", f"{shown(req.full_url)}: {message}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)
