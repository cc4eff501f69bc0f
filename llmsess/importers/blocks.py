"""Blocks of content as `parts.pack()` knows them, for formats that spell them otherwise."""

from __future__ import annotations

import base64
from typing import Any

Block = dict[str, Any]


def text(value: str, /, **more: Any) -> Block:
    """Return a block of visible text."""
    return {**more, "type": "text", "text": value}


def thinking(value: str, /, **more: Any) -> Block:
    """Return a block of a model's reasoning."""
    return {**more, "type": "thinking", "thinking": value}


def tool_use(call_id: Any, name: Any, given: Any, /, **more: Any) -> Block:
    """Return a call of a tool; `given` is any JSON."""
    return {**more, "type": "tool_use", "id": call_id, "name": name, "input": given}


def tool_result(call_id: Any, content: Any, name: Any = None, /, **more: Any) -> Block:
    """Return what a tool answered: a text, blocks, or any JSON."""
    named = {} if name is None else {"name": name}
    return {**more, "type": "tool_result", "tool_use_id": call_id, "content": content, **named}


def media(kind: str, media_type: Any, data: str | bytes, /, **more: Any) -> Block:
    """Return a block of bytes, given as such or in base64; `kind` is image, audio, video or file."""
    encoded = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    return {**more, "type": kind, "source": {"type": "base64", "media_type": media_type, "data": encoded}}


def from_data_url(kind: str, url: Any, /, **more: Any) -> Block | None:
    """Return a block of the bytes of a data: URL, None for any other value."""
    if not isinstance(url, str) or not url.startswith("data:"):
        return None
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        return None
    return media(kind, head.removeprefix("data:").removesuffix(";base64") or None, data, **more)
