"""Fetching what a URL of a person's prompt holds: http and https only, redirects too, within bounds."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

from llmsess.errors import InvalidInput, ProviderError

READ_S, WHOLE_S = 30.0, 300.0  # how long one read, and all of it, may take
CHUNK_BYTES = 256 * 1024


def download(url: str, limit_bytes: int) -> tuple[bytes, str, str | None]:
    """Return the bytes of a URL, the name that its path ends with, and the media type that the server says.

    Raises ProviderError where it does not answer well, InvalidInput where it is longer than the limit.
    """
    try:
        name = unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2]) or "download"
    except ValueError as error:
        raise InvalidInput(f'"{url}" is no address') from error
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "llmsess"})
        with _opener().open(request, timeout=READ_S) as response:
            kind = response.headers.get_content_type() if response.headers.get("Content-Type") else None
            return _body(response, url, limit_bytes), name, kind
    except urllib.error.HTTPError as error:
        raise _failed(url, f"answered {error.code}", http_status=error.code) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _failed(url, " ".join(str(getattr(error, "reason", error)).split())) from error


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that knows no other schemes: a redirect to a file leads nowhere."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler, urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _body(response: object, url: str, limit_bytes: int) -> bytes:
    pieces, size, until = [], 0, time.monotonic() + WHOLE_S
    while piece := response.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
        pieces.append(piece)
        size += len(piece)
        if size > limit_bytes:
            raise InvalidInput(f"{url} is longer than {limit_bytes // 1024**2} MiB")
        if time.monotonic() > until:
            raise _failed(url, f"took longer than {WHOLE_S:.0f} s")
    return b"".join(pieces)


def _failed(url: str, why: str, http_status: int | None = None) -> ProviderError:
    return ProviderError(f"{url}: {why}", error_kind="connection", http_status=http_status)
