"""Structured content: blocks (as the APIs have them) to the fields of a message and back, exactly.

A message's text is stored once, in `content`, `reasoning` or `tool_text`, where it is readable and searched. `parts`
keeps the blocks with each such text replaced by the span it has there: `["content", start, end]`. Bytes become
attachments: `["blob", n]` is the n-th of the message. Known blocks are text, thinking, tool_use, tool_result and
image/audio/file with base64 data, in Anthropic's and OpenAI's spellings; any other block is kept as it is. Blocks of a
type that no list here names are told, so that an importer can say what it did not understand.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from llmsess.models import dump_json
from llmsess.texts import clean

Block = dict[str, Any]
_TOOLS = ("tool_use", "function", "tool_result")
SEPARATOR = "\n\n"
_TEXTS = {  # block type: (key of its text, field that holds it)
    "text": ("text", "content"),
    "input_text": ("text", "content"),
    "output_text": ("text", "content"),
    "refusal": ("refusal", "content"),
    "thinking": ("thinking", "reasoning"),
    "reasoning": ("text", "reasoning"),
}
_OTHERS = (  # kept as they are, since nothing in them is text that is said
    "image", "image_url", "input_image", "audio", "input_audio", "video", "file", "input_file", "document",
    "redacted_thinking", "server_tool_use", "mcp_tool_use", "mcp_tool_result", "web_search_tool_result",
    "web_fetch_tool_result", "code_execution_tool_result", "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result", "tool_reference", "search_result", "container_upload", "citations",
    "fallback", "token_budget", "voice_note", "flag", "custom", "data", "resource_link",
)  # fmt: skip
_KNOWN = {*_TEXTS, *_TOOLS, *_OTHERS}


class Attachment(NamedTuple):
    """Bytes that came inside a message."""

    media_type: str | None
    data: bytes


@dataclass
class Packed:
    """A message's content, taken apart."""

    content: str = ""
    reasoning: str | None = None
    tool_text: str | None = None
    parts: list[Any] | None = None
    attachments: list[Attachment] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)  # types of blocks that are kept and not understood

    def fields(self) -> dict[str, Any]:
        """Return the columns of a message."""
        return {
            "content": self.content,
            "reasoning": self.reasoning,
            "tool_text": self.tool_text,
            "parts": self.parts,
        }


class _Packer:
    def __init__(self) -> None:
        self.pieces: dict[str, list[str]] = {"content": [], "reasoning": [], "tool_text": []}
        self.lengths = {"content": 0, "reasoning": 0, "tool_text": 0}
        self.attachments: list[Attachment] = []
        self.unknown: list[str] = []

    def add(self, name: str, text: str, prefix: str = "") -> list[Any]:
        """Append a text to a field; return its span."""
        text = clean(text)
        start = self.lengths[name] + (len(SEPARATOR) if self.pieces[name] else 0) + len(prefix)
        self.pieces[name].append(prefix + text)
        self.lengths[name] = start + len(text)
        return [name, start, start + len(text)]

    def attach(self, encoded: str, media_type: str | None) -> list[Any] | None:
        """Keep base64 data as an attachment; return its reference, None where decoding would not be exact."""
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return None
        if base64.b64encode(data).decode() != encoded:
            return None
        self.attachments.append(Attachment(clean(media_type) if isinstance(media_type, str) else None, data))
        return ["blob", len(self.attachments) - 1]

    def block(self, block: Any, inside: str | None = None) -> Any:
        """Return the block with its texts replaced, `{"json": block}` where there is nothing to replace.

        `inside` is the field of an enclosing tool result.
        """
        if isinstance(block, str):
            return self.add(inside or "content", block)
        kind = block.get("type") if isinstance(block, dict) else None
        replaced = self.replaced(block, kind, inside) if isinstance(kind, str) else None
        if not isinstance(kind, str) or kind not in _KNOWN or (replaced is None and kind in _TEXTS):
            self.unknown.append(clean(str(kind))[:40])
        return {"json": block} if replaced is None else replaced

    def replaced(self, block: Block, kind: str, inside: str | None) -> Block | None:
        if kind in _TEXTS and isinstance(block.get(_TEXTS[kind][0]), str):
            key, name = _TEXTS[kind]
            return block | {key: self.add(inside or name, block[key])}
        if kind == "tool_use" and "input" in block:
            return block | {"input": self.add("tool_text", dump_json(block["input"]), f"{_name(block)} ")}
        if kind == "function" and isinstance(block.get("function"), dict):
            return self.function(block, block["function"])
        if kind == "tool_result" and "content" in block:
            return block | {"content": self.result(block["content"])}
        return self.media(block, kind)

    def function(self, block: Block, function: Block) -> Block | None:
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            return None
        span = self.add("tool_text", arguments, f"{_name(function)} ")
        return block | {"function": function | {"arguments": span}}

    def result(self, content: Any) -> Any:
        if isinstance(content, str):
            return self.add("tool_text", content)
        if isinstance(content, list):
            return {"blocks": [self.block(inner, "tool_text") for inner in content]}
        return {"json": content}

    def media(self, block: Block, kind: str) -> Block | None:
        """Replace base64 data; restoring knows by the keys where it was, so a block of text or tools has none."""
        if kind in _TEXTS or kind in _TOOLS:
            return None
        if "source" in block:
            source = block["source"]
            if not isinstance(source, dict) or source.get("type") != "base64":
                return None
            if not isinstance(source.get("data"), str):
                return None
            kept = self.attach(source["data"], source.get("media_type"))
            return block | {"source": source | {"data": kept}} if kept else None
        image = block.get("image_url")
        if kind == "image_url" and isinstance(image, dict) and str(image.get("url", "")).startswith("data:"):
            head, _, data = image["url"].partition(";base64,")
            kept = self.attach(data, head.removeprefix("data:") or None) if data else None
            return block | {"image_url": image | {"url": [head, kept]}} if kept else None
        return None


def _name(block: Block) -> str:
    return clean(str(block.get("name") or "tool"))


def pack(content: str | Sequence[Any] | None) -> Packed:
    """Take content apart: a string, None, or a list of blocks. `unpack()` gives an equal list of blocks."""
    if content is None:
        return Packed()
    if isinstance(content, str):
        return Packed(content=clean(content))
    if len(content) == 1 and isinstance(content[0], dict) and set(content[0]) == {"type", "text"}:
        only = content[0]
        if only["type"] == "text" and isinstance(only["text"], str):
            return Packed(content=clean(only["text"]))
    packer = _Packer()
    parts = [packer.block(block) for block in content]
    joined = {name: SEPARATOR.join(pieces) if pieces else None for name, pieces in packer.pieces.items()}
    texts = joined["content"] or "", joined["reasoning"], joined["tool_text"]
    return Packed(*texts, parts, packer.attachments, packer.unknown)


def unpack(
    fields: dict[str, str | None], parts: list[Any] | None, attachment: Callable[[int], bytes] | None = None
) -> list[Any] | None:
    """Put the blocks together again from whole texts; None where `parts` is None, for then the content says all.

    `attachment(n)` returns the bytes of the n-th attachment; without it a reference to one stays `["blob", n]`.
    """
    if parts is None:
        return None
    return [_restore(part, fields, attachment) for part in parts]


def _span(value: Any, fields: dict[str, str | None]) -> Any:
    name, start, end = value
    return (fields[name] or "")[start:end]


def _restore(part: Any, fields: dict[str, str | None], attachment: Callable[[int], bytes] | None) -> Any:
    if isinstance(part, list):
        return _span(part, fields)
    if "json" in part and len(part) == 1:
        return part["json"]
    kind = part["type"]
    if kind in _TEXTS:
        key = _TEXTS[kind][0]
        return part | {key: _span(part[key], fields)}
    if kind == "tool_use":
        return part | {"input": json.loads(_span(part["input"], fields))}
    if kind == "function":
        return part | {"function": part["function"] | {"arguments": _span(part["function"]["arguments"], fields)}}
    if kind == "tool_result":
        return part | {"content": _restore_result(part["content"], fields, attachment)}
    return _restore_media(part, attachment) if attachment else part


def _restore_result(content: Any, fields: dict[str, str | None], attachment: Any) -> Any:
    if isinstance(content, list):
        return _span(content, fields)
    if "blocks" in content:
        return [_restore(inner, fields, attachment) for inner in content["blocks"]]
    return content["json"]


def _restore_media(part: Block, attachment: Callable[[int], bytes]) -> Block:
    if "source" in part:
        data = base64.b64encode(attachment(part["source"]["data"][1])).decode()
        return part | {"source": part["source"] | {"data": data}}
    head, kept = part["image_url"]["url"]
    data = base64.b64encode(attachment(kept[1])).decode()
    return part | {"image_url": part["image_url"] | {"url": f"{head};base64,{data}"}}


def changed(
    fields: dict[str, str | None], parts: list[Any], change: Callable[[str], str], change_json: Callable[[str], str]
) -> tuple[dict[str, str | None], list[Any]]:
    """Return the fields and the parts of a message with each of their texts changed, the spans moved along.

    `change_json` is given texts that are JSON and stay so. Spans that overlap are none of ours: raises ValueError.
    """
    spans: dict[tuple[str, int, int], bool] = {}  # whether a span is JSON
    _collect(parts, spans)
    moved: dict[tuple[str, int, int], list[Any]] = {}
    made = dict(fields)
    for name in {span[0] for span in spans}:
        text, done, end = fields.get(name) or "", "", 0
        for span in sorted(one for one in spans if one[0] == name):
            if span[1] < end:
                raise ValueError("spans that overlap")
            done += change(text[end : span[1]])
            start = len(done)
            done += (change_json if spans[span] else change)(text[span[1] : span[2]])
            moved[span], end = [name, start, len(done)], span[2]
        made[name] = done + change(text[end:])
    others = {name: change(text) for name, text in made.items() if text and name not in {span[0] for span in spans}}
    return made | others, _moved(parts, moved, change)


def _is_span(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and value[0] in ("content", "reasoning", "tool_text")


def _collect(value: Any, spans: dict[tuple[str, int, int], bool], *, is_json: bool = False) -> None:
    if _is_span(value):
        spans[tuple(value)] = is_json
    elif isinstance(value, dict) and value.keys() != {"json"}:
        for key, inner in value.items():
            _collect(inner, spans, is_json=value.get("type") == "tool_use" and key == "input")
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, spans)


def _moved(value: Any, moved: dict[tuple[str, int, int], list[Any]], change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if _is_span(value) and tuple(value) in moved:
        return moved[tuple(value)]
    if isinstance(value, dict):
        return {key: inner if key == "type" else _moved(inner, moved, change) for key, inner in value.items()}
    return [_moved(inner, moved, change) for inner in value] if isinstance(value, list) else value
