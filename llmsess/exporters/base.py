"""What an exporter is: something that writes conversations in a format, without a database.

An exporter is a module with `NAME`, `DESCRIPTION`, `SUFFIX`, `LOSES` (what the format cannot hold, for people) and
`write(archive, out, losses)`. It reads the archive from its beginning to its end and keeps nothing of it, so that
memory stays constant; what it leaves out of a conversation it counts in `losses` under a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import IO, Any, Protocol


@dataclass
class Said:
    """A message; `blocks()` returns its exact structured content, None where `content` says all."""

    id: str
    role: str
    origin: str
    status: str
    content: str
    reasoning: str | None
    blocks: Callable[[], list[Any] | None]
    is_hidden: bool = False
    model: str | None = None  # provider/name
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Decimal | None = None
    latency_ms: int | None = None
    ttft_ms: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    external_id: str | None = None
    created_at: datetime | None = None


@dataclass
class Conversation:
    """A session and the messages on its path, read once as they are wanted."""

    id: str
    messages: Iterable[Said]
    title: str | None = None
    project: str | None = None
    model: str | None = None
    system_prompt: str | None = None
    tags: list[str] = field(default_factory=list)
    source: str | None = None
    started_at: datetime | None = None
    last_activity_at: datetime | None = None

    @property
    def name(self) -> str:
        """Return what names it for a person."""
        return self.title or f"Conversation {self.id[:8]}"


class Losses(Counter[str]):
    """What a format could not hold, counted under a word."""

    def block(self, kind: str) -> None:
        """Count a block that is left out, by what it is."""
        self[{"reasoning": "reasoning", "media": "attachments"}.get(kind, "other blocks")] += 1


class Archive(Protocol):
    """What is exported: read as conversations, or row by row."""

    def conversations(self) -> Iterator[Conversation]: ...

    def rows(self) -> Iterator[dict[str, Any]]: ...


class Exporter(Protocol):
    """A module of this package."""

    NAME: str
    DESCRIPTION: str
    SUFFIX: str
    LOSES: str

    def write(self, archive: Archive, out: IO[str], losses: Losses) -> None: ...


# Blocks, as all exporters read them


def blocks_of(said: Said) -> list[Any]:
    """Return the blocks of a message, of a plain one its text."""
    found = said.blocks()
    if found is None:
        return [{"type": "text", "text": said.content}] if said.content else []
    return found


def kind_of(block: Any) -> str:
    """Return what a block is: text, reasoning, call, result, media or other."""
    kind = block.get("type") if isinstance(block, dict) else "text" if isinstance(block, str) else None
    return _KINDS.get(str(kind), "other")


_KINDS = {
    "text": "text", "input_text": "text", "output_text": "text", "refusal": "text",
    "thinking": "reasoning", "reasoning": "reasoning", "redacted_thinking": "other",
    "tool_use": "call", "function": "call", "tool_result": "result",
    "image": "media", "image_url": "media", "audio": "media", "input_audio": "media", "video": "media",
    "file": "media", "document": "media", "input_image": "media", "input_file": "media",
}  # fmt: skip


def text_of(block: Any) -> str:
    """Return the text of a block of text or reasoning, "" where it has none."""
    if isinstance(block, str):
        return block
    return next((block[key] for key in ("text", "refusal", "thinking") if isinstance(block.get(key), str)), "")


@dataclass
class ToolCall:
    """A call of a tool, in whichever spelling it is stored; `given` is any JSON, or text that is none."""

    id: str | None
    name: str
    given: Any


def call_of(block: dict[str, Any]) -> ToolCall:
    """Return a block that is a call."""
    function: dict[str, Any] = block["function"] if isinstance(block.get("function"), dict) else {}
    name = block.get("name") or function.get("name") or "tool"
    given = block.get("input", function.get("arguments"))
    return ToolCall(block.get("id") if isinstance(block.get("id"), str) else None, str(name), given)


def result_text(block: dict[str, Any], losses: Losses | None = None) -> str:
    """Return what a tool answered as text; what is no text in it is counted as lost."""
    content = block.get("content")
    if isinstance(content, str) or content is None:
        return content or ""
    if isinstance(content, list):
        texts = [text_of(item) for item in content if kind_of(item) == "text"]
        if losses is not None and len(texts) < len(content):
            losses["attachments of tool results"] += len(content) - len(texts)
        return "\n\n".join(texts)
    return compact(content)


def compact(value: Any) -> str:
    """Return a value as JSON."""
    import json

    return json.dumps(value, ensure_ascii=False)


def line(value: Any) -> str:
    """Return a value as a line of JSON lines."""
    return f"{compact(value)}\n"
