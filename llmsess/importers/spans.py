"""Traces tell of single calls of a model, each with all that was said before: they are put together to conversations.

`messages_of()` reads what was given or answered in any of the spellings that SDKs write (OpenAI's chat and responses,
Anthropic's blocks, the parts of OpenTelemetry, plain text). A message is known by the hash of all before it in its
conversation and itself, so calls may come in any order: what is repeated falls together, and what departs is a branch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from llmsess.importers import blocks
from llmsess.importers.base import Item, MessageRecord
from llmsess.importers.chains import ORIGINS
from llmsess.importers.reading import mapping, mappings, parsed, sequence
from llmsess.parts import Packed, pack

ROLES = {
    "user": "user", "human": "user", "assistant": "assistant", "ai": "assistant", "model": "assistant",
    "system": "system", "developer": "developer", "tool": "tool", "function": "tool",
}  # fmt: skip
CALLS = ("function_call", "tool_call", "tool_use")
ANSWERS = ("function_call_output", "tool_call_response", "tool_result", "tool-result")


@dataclass
class Said:
    """One message as a trace tells it."""

    role: str
    content: list[Any]


@dataclass
class Generation:
    """One call of a model; `told` are further fields of the answer's MessageRecord."""

    given: list[Said]
    answered: list[Said]
    started_at: datetime | None = None
    told: dict[str, Any] = field(default_factory=dict)


class Conversation:
    """What was said in one conversation, as its generations come."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.seen: set[str] = set()

    def items(self, generation: Generation) -> Iterator[Item]:
        """Yield the messages of a generation that are new, and its answer."""
        chain, parent = self.session.encode(errors="replace"), None
        everything = [*generation.given, *generation.answered]
        for i, said in enumerate(everything):
            packed = pack(said.content)
            key = json.dumps([said.role, packed.content, packed.reasoning, packed.tool_text])
            chain = hashlib.sha256(chain + key.encode()).digest()
            external_id = chain.hex()[:32]
            answers = i >= len(generation.given)
            if answers or external_id not in self.seen:
                told = generation.told if i == len(everything) - 1 and answers else {}
                yield self.message(external_id, parent, said.role, packed, {"created_at": generation.started_at} | told)
            self.seen.add(external_id)
            parent = external_id

    def message(
        self, external_id: str, parent: str | None, role: str, packed: Packed, told: dict[str, Any]
    ) -> MessageRecord:
        origin = ORIGINS.get(role, "harness")
        return MessageRecord(self.session, external_id, parent, role, origin, packed, **told)


def messages_of(value: Any, role: str) -> list[Said]:
    """Return the messages of what was given to a model or answered; `role` is of a bare text."""
    value = parsed(value)
    if value is None or value in ("", [], {}):
        return []
    if isinstance(value, list):
        items = value
        if all(isinstance(item, dict) and ("role" in item or "type" in item or "message" in item) for item in items):
            return _together([said for item in items for said in messages_of(item, role)])
        return [Said(role, [blocks.text(json.dumps(value, ensure_ascii=False))])]
    if not isinstance(value, dict):
        return [Said(role, [blocks.text(value if isinstance(value, str) else json.dumps(value))])]
    for key in ("messages", "choices", "output"):
        if isinstance(value.get(key), list) and value[key]:
            return messages_of(value[key][:1] if key == "choices" else value[key], role)
    if isinstance(value.get("message"), dict):
        return messages_of(value["message"], role)
    if "role" in value:
        return [_message(value)]
    if value.get("type") in (*CALLS, *ANSWERS, "reasoning"):
        block = block_of(value)
        return [Said("tool" if value["type"] in ANSWERS else "assistant", [block])]
    text = next((value[key] for key in ("text", "content", "completion") if isinstance(value.get(key), str)), None)
    return [Said(role, [blocks.text(json.dumps(value, ensure_ascii=False) if text is None else text)])]


def _together(messages: list[Said]) -> list[Said]:
    """Return the messages, those of the model that follow one another as one (an answer may be several items)."""
    found: list[Said] = []
    for said in messages:
        if found and said.role == "assistant" == found[-1].role:
            found[-1] = Said("assistant", [*found[-1].content, *said.content])
        else:
            found.append(said)
    return found


def _message(value: dict[str, Any]) -> Said:
    """Return a message with a role."""
    role = ROLES.get(str(value["role"]), "event")
    content = value.get("content")
    found = content if isinstance(content, list) else value.get("parts")
    said: list[Any] = [block_of(block) for block in sequence(found)]
    if isinstance(content, str) and content:
        said = [blocks.text(content)]
    elif isinstance(content, dict):
        said = [blocks.text(json.dumps(content, ensure_ascii=False))]
    answers = any(isinstance(block, dict) and block.get("type") == "tool_result" for block in said)
    if role == "tool" and not answers:
        plain = content if isinstance(content, str) else said
        said = [blocks.tool_result(value.get("tool_call_id") or value.get("id"), plain, value.get("name"))]
    said += [block_of(call) for call in mappings(value.get("tool_calls"))]
    return Said("tool" if answers else role, said)


def block_of(block: Any) -> Any:
    """Return a block, an item or a part as `pack()` knows it."""
    if not isinstance(block, dict):
        return block if isinstance(block, str) else blocks.text(json.dumps(block))
    kind, function = block.get("type"), mapping(block.get("function"))
    content = block.get("content")
    if kind in CALLS or function:
        arguments = next((block[key] for key in ("arguments", "input", "args") if key in block), None)
        called = block.get("call_id") or block.get("id")
        return blocks.tool_use(
            called, block.get("name") or function.get("name"), parsed(function.get("arguments", arguments))
        )
    if kind in ANSWERS:
        output = next((block[key] for key in ("output", "response", "result", "content") if key in block), None)
        return blocks.tool_result(block.get("call_id") or block.get("tool_use_id") or block.get("id"), output)
    if kind == "reasoning":
        spoken = [str(part.get("text") or "") for part in mappings(block.get("summary"))]
        return blocks.thinking(content if isinstance(content, str) else "\n\n".join(spoken))
    if kind == "text" and isinstance(content, str):
        return blocks.text(content)
    if kind == "blob":
        shape = str(block.get("mime_type") or block.get("modality")).partition("/")[0]
        data = content if isinstance(content, str) else str(block.get("data") or "")
        return blocks.media(shape if shape in ("image", "audio", "video") else "file", block.get("mime_type"), data)
    return {**block, "type": "file"} if kind == "uri" else block
