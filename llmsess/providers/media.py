"""Attachments as providers see them: one shape read from every spelling of a block, from which each writes its own.

A block is Anthropic's (`{"type": "image", "source": {...}}`, which is how llmsess stores an attachment) or OpenAI's
(`image_url`, `input_audio`, `file`).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from llmsess.errors import InvalidInput


@dataclass(frozen=True)
class Media:
    """An attachment: its type, its bytes in base64 (or `url`, where it lies elsewhere), and its name."""

    media_type: str
    data: str
    name: str | None = None
    url: str | None = None

    @property
    def kind(self) -> str:
        """Return image, audio, text, or what the type begins with."""
        return "text" if is_text(self.media_type) else self.media_type.partition("/")[0]

    @property
    def data_url(self) -> str:
        return self.url or f"data:{self.media_type};base64,{self.data}"

    def text(self) -> str:
        """Return the text of a text file under its name, as a model reads it."""
        said = base64.b64decode(self.data).decode(errors="replace")
        return f"{self.name}:\n\n{said}" if self.name else said


_TEXTS = ("application/json", "application/xml", "application/javascript", "application/x-sh", "application/toml",
          "application/yaml", "application/x-yaml", "application/sql", "image/svg+xml")  # fmt: skip


def is_text(media_type: str) -> bool:
    """Return whether files of a type are texts that a model reads as they are."""
    return media_type.startswith("text/") or media_type in _TEXTS


def of(block: Any) -> Media | None:
    """Return the attachment in a block, None where there is none."""
    if not isinstance(block, dict):
        return None
    source, name = block.get("source"), block.get("title") or block.get("name")
    if isinstance(source, dict):
        if source.get("type") == "url":
            return Media("image/*" if block.get("type") == "image" else "application/pdf", "", name, str(source["url"]))
        if isinstance(source.get("data"), str):
            return Media(str(source.get("media_type") or "application/octet-stream"), source["data"], name)
    return _openai(block)


def _openai(block: dict[str, Any]) -> Media | None:
    inner = block.get(str(block.get("type")))
    if not isinstance(inner, dict):
        return None
    if block["type"] == "input_audio":
        return Media(f"audio/{inner.get('format')}", str(inner.get("data")))
    url = inner.get("url") or inner.get("file_data")
    if not isinstance(url, str):
        return None
    head, comma, data = url.partition(";base64,")
    if url.startswith("data:") and comma:
        return Media(head[5:] or "application/octet-stream", data, inner.get("filename"))
    return Media("image/*", "", None, url)


def unsupported(provider: str, media: Media, takes: str) -> InvalidInput:
    """Return the error for an attachment that a provider cannot be sent."""
    return InvalidInput(
        f"{provider} takes no {media.media_type} ({media.name or 'an attachment'})", hint=f"it takes {takes}"
    )
