"""Conversations as OpenAI's chat API has them: JSON lines (or an array) of `{"messages": [...]}`.

Fine-tuning data, request logs and hand-kept files; also `{custom_id, body: {model, messages}}` of batch input. There
are no ids and no times, so a message is known by the hash of all that comes before it and itself. A log repeats the
whole history in each request: a record that begins as another one did, the first prompt included, adds to its tree
only what is new, beside what it departs from. Two equal records are one conversation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from llmsess.importers.base import (
    Bad,
    Ignored,
    InputRecord,
    Item,
    MessageRecord,
    SessionRecord,
    Source,
    lines,
    moment,
    objects,
    text_or_none,
)
from llmsess.parts import Packed, pack

NAME = "openai-chat"
DESCRIPTION = "OpenAI chat JSONL: fine-tuning data, request logs, batch input"
ROLES = {"system": "system", "developer": "developer", "user": "user", "assistant": "assistant", "tool": "tool",
         "function": "tool"}  # fmt: skip
ORIGINS = {"user": "human", "assistant": "model", "tool": "tool"}
TOLD = ("tools", "functions", "parallel_tool_calls", "temperature", "max_tokens", "response_format", "custom_id")


def matches(head: list[Any]) -> bool:
    """Return whether the first records are conversations in OpenAI's form."""
    found = [record for record in head if isinstance(record, dict)]
    return any(_messages(record) is not None for record in found)


def _messages(record: dict[str, Any]) -> list[Any] | None:
    """Return the messages of a record, None where it is no conversation."""
    body = record.get("body")
    messages = (body if isinstance(body, dict) else record).get("messages")
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and "role" in message for message in messages
    ):
        return None
    return messages


def read(source: Source) -> Iterator[Item]:
    """Yield the conversations of a file: of JSON lines, or of one document, an array or an object."""
    with source.open() as file:
        start = file.peek(1024)[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
        document = None if _is_line(start) else source.document()
        if document is not None:
            records = objects(document if isinstance(document, list) else [document])
        elif start.startswith(b"["):
            records = iter([(InputRecord(1, b""), None, "the array cannot be read: it is cut, or larger than 256 MiB")])
        else:
            records = lines(file)
        for record, value, problem in records:
            yield from conversation(record, value, problem)


def _is_line(start: bytes) -> bool:
    """Return whether a file begins with a whole line of JSON, as far as its beginning tells."""
    first, newline, _ = start.partition(b"\n")
    try:
        return start.startswith(b"{") and isinstance(json.loads(first), dict) and bool(newline)
    except (ValueError, RecursionError):
        return start.startswith(b"{") and not newline  # a line longer than what was looked at


def conversation(record: InputRecord, value: Any, problem: str | None) -> Iterator[Item]:
    """Yield the session and the messages of one input record."""
    if problem is not None or not isinstance(value, dict):
        yield Bad(record, problem or "the line is no object")
        return
    messages = _messages(value)
    if messages is None:
        yield Bad(record, "no conversation: it has no list of messages with roles")
        return
    unknown = [message["role"] for message in messages if str(message["role"]) not in ROLES]
    if unknown:
        yield Bad(record, f"unknown role {json.dumps(unknown[0])[:40]}")
        return
    if not messages:
        yield Ignored(record, "a conversation without messages")
        return
    yield from _chain(record, value, messages)


def _chain(record: InputRecord, value: dict[str, Any], messages: list[dict[str, Any]]) -> Iterator[Item]:
    body = value["body"] if isinstance(value.get("body"), dict) else value
    model = text_or_none(body.get("model"))
    hashes = chain_hashes(messages)
    root = next((i for i, message in enumerate(messages) if message["role"] == "user"), len(messages) - 1)
    session = f"chat:{hashes[root]}"
    told = {key: body.get(key, value.get(key)) for key in TOLD if body.get(key, value.get(key)) is not None}
    yield SessionRecord(
        session, model=provider_model(model), metadata=told or None, started_at=moment(body.get("created"))
    )
    parent = None
    for i, message in enumerate(messages):
        external_id = hashes[i] if i >= root else f"{hashes[root]}:{i}"
        role = ROLES[message["role"]]
        yield MessageRecord(
            session,
            external_id,
            parent,
            role,
            ORIGINS.get(role, "harness"),
            packed(message),
            model=provider_model(model) if role == "assistant" else None,
            metadata=_extra(message),
            records=[record._replace(external_id=text_or_none(value.get("custom_id")))]
            if i == len(messages) - 1
            else [],
        )
        parent = external_id


def chain_hashes(messages: list[dict[str, Any]]) -> list[str]:
    """Return for each message the hash of the conversation up to it."""
    so_far, hashes = b"", []
    for message in messages:
        content = message.get("content")
        if len(message) == 2 and isinstance(content, str):  # most are so, and this is four times as fast
            text = f"{message['role']}\0{content}"
        else:
            text = json.dumps(message, ensure_ascii=False, sort_keys=True)
        # surrogatepass: a lone surrogate is a text too, and must not collide with another
        so_far = hashlib.sha256(so_far + text.encode("utf-8", "surrogatepass")).digest()
        hashes.append(so_far.hex()[:32])
    return hashes


def provider_model(model: str | None) -> str | None:
    """Return a model of such a file as provider/name: as it stands where it names its provider."""
    if model is None:
        return None
    provider, _, name = model.partition("/")
    if "/" not in model:
        return f"openai/{model}"
    return model if provider.strip() and name.strip() else None


def packed(message: dict[str, Any]) -> Packed:
    """Return a message's content with its tool calls, or what a tool answered."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        blocks: list[Any] = [{"type": "text", "text": content}] if content else []
    else:
        blocks = content if isinstance(content, list) else [content]
    if ROLES[message["role"]] == "tool":
        result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": content}
        return pack([result | ({"name": message["name"]} if message.get("name") else {})])
    calls = message.get("tool_calls") if isinstance(message.get("tool_calls"), list) else []
    if isinstance(message.get("function_call"), dict):
        calls = [*(calls or []), {"type": "function", "function": message["function_call"]}]
    if message.get("refusal"):
        blocks = [*blocks, {"type": "refusal", "refusal": message["refusal"]}]
    return pack([*blocks, *(calls or [])]) if blocks or calls else Packed()


def _extra(message: dict[str, Any]) -> dict[str, Any] | None:
    known = ("role", "content", "tool_calls", "function_call", "tool_call_id", "refusal")
    return {key: value for key, value in message.items() if key not in known and value is not None} or None
