"""Conversations as Anthropic's API has them: JSON lines (or an array) of requests, responses, and batches.

A request has `messages` and a `system` prompt beside them; a line of a log may have the response too. Batch input is
`{"requests": [{custom_id, params}]}` or a line for each; a line of batch results holds no prompt, which is looked up by
`custom_id` in the input beside it. There are no times; a message is known as in `openai_chat`, whose chains these are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmsess.importers.base import Bad, Ignored, InputRecord, Item, MessageRecord, SessionRecord, Whole
from llmsess.importers.openai_chat import chain_hashes, is_anthropic
from llmsess.importers.reading import digest, mapping, mappings, records, reference, text_or_none
from llmsess.importers.siblings import Requests
from llmsess.importers.source import Head, Source
from llmsess.models import token_count
from llmsess.parts import pack
from llmsess.prices import Usage

NAME = "anthropic-chat"
DESCRIPTION = "Anthropic API JSONL: requests, responses, batch input and results"
PLACES = ()
TOLD = ("tools", "max_tokens", "temperature", "thinking", "custom_id")
ENVELOPES = ("params", "request", "body")


def matches(head: Head) -> bool:
    """Return whether the first records are requests, responses or batches of Anthropic's API."""
    return any(_is_ours(inner) for record in head.objects for inner in (record, *mappings(record.get("requests"))))


def _is_ours(record: dict[str, Any]) -> bool:
    asked = request(record)
    if {"epoch", "target"} <= record.keys():
        return False  # a sample of Inspect's, which is alike
    if asked is not None:
        return is_anthropic(asked) or "params" in record
    return response(record) is not None or ("custom_id" in record and "type" in mapping(record.get("result")))


def request(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the request of a record, which has the messages; None where there is none."""
    for found in (record, *(mapping(record.get(key)) for key in ENVELOPES)):
        messages = found.get("messages")
        if isinstance(messages, list) and all(isinstance(message, dict) and "role" in message for message in messages):
            return found
    return None


def response(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the message that a model answered in a record, None where there is none."""
    for found in (record, mapping(record.get("response")), mapping(mapping(record.get("result")).get("message"))):
        said = found.get("type") == "message" and found.get("role") == "assistant"
        if said and isinstance(found.get("content"), list):
            return found
    return None


def read(source: Source) -> Iterator[Item]:
    """Yield the conversations of a file."""
    beside = Requests(source, request)
    for record, value, problem in records(source, "requests"):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the line is no object")
        else:
            yield from conversation(record, value, beside)


def conversation(record: InputRecord, value: dict[str, Any], beside: Requests) -> Iterator[Item]:
    """Yield the session and the messages of one record."""
    custom_id = text_or_none(value.get("custom_id"))
    record = record._replace(external_id=custom_id)
    answer, error = response(value), failure(value)
    asked = request(value) or (beside.find(custom_id) if answer or error else None)
    messages = list(asked["messages"]) if asked else []
    if asked is None and answer is None and error is None:
        yield Bad(record, "no conversation: neither messages nor an answer")
        return
    if not messages and answer is None and error is None:
        yield Ignored(record)
        return
    if answer is not None or error is not None:
        messages.append({"role": "assistant", "content": answer.get("content") if answer else None})
    hashes = chain_hashes(messages)
    root = next((i for i, message in enumerate(messages) if message["role"] == "user"), len(messages) - 1)
    named = hashes[root] if asked else digest(value)
    about = asked or {}
    yield SessionRecord(
        f"chat:{named}",
        model=reference("anthropic", text_or_none(about.get("model"))),
        system_prompt=system_text(about.get("system")),
        metadata={key: about.get(key, value.get(key)) for key in TOLD if about.get(key, value.get(key))} or None,
    )
    parent = None
    for i, message in enumerate(messages):
        external_id = f"{named}:{i}" if i < root else hashes[i] if asked else named
        ends = (answer, error) if i == len(messages) - 1 else (None, None)
        yield said(message, f"chat:{named}", external_id, parent, about, *ends)
        parent = external_id
    yield Whole(record)


def said(
    message: dict[str, Any], session: str, external_id: str, parent: str | None, about: dict[str, Any],
    answer: dict[str, Any] | None, error: str | None,
) -> MessageRecord:  # fmt: skip
    """Return a message of a request, or the answer to it."""
    content = message.get("content")
    blocks = content if isinstance(content, list) else str(content) if content is not None else None
    results = any(block.get("type") == "tool_result" for block in mappings(content))
    role = str(message["role"])
    role = "tool" if results and role == "user" else role if role in ("user", "assistant", "system") else "event"
    counted = mapping(mapping(answer).get("usage"))
    model = text_or_none(mapping(answer).get("model")) or text_or_none(about.get("model"))
    return MessageRecord(
        session,
        external_id,
        parent,
        role,
        {"user": "human", "assistant": "model", "tool": "tool"}.get(role, "harness"),
        pack(blocks),
        model=reference("anthropic", model) if role == "assistant" else None,
        usage=tokens(counted) if counted else Usage(),
        raw_usage=counted or None,
        finish_reason=text_or_none(mapping(answer).get("stop_reason")),
        error=error,
    )


def failure(value: dict[str, Any]) -> str | None:
    """Return why a request of a batch has no answer, None where it has one or is none."""
    result = mapping(value.get("result"))
    if "custom_id" not in value or result.get("type") in (None, "succeeded"):
        return None
    error = mapping(result.get("error"))
    inner = mapping(error.get("error")) or error
    return text_or_none(inner.get("message")) or str(result["type"])


def system_text(system: Any) -> str | None:
    """Return a system prompt that is a text or blocks of text."""
    if isinstance(system, list):
        texts = (text_or_none(block.get("text")) for block in mappings(system))
        return "\n\n".join(filter(None, texts)) or None
    return text_or_none(system)


def tokens(usage: dict[str, Any]) -> Usage:
    """Return Anthropic's usage object as ours: its input leaves out what was read from and written to the cache."""
    fresh, output = token_count(usage.get("input_tokens")), token_count(usage.get("output_tokens"))
    cached = token_count(usage.get("cache_read_input_tokens"))
    written = token_count(usage.get("cache_creation_input_tokens"))
    total = None if fresh is None else fresh + (cached or 0) + (written or 0)
    return Usage(total, cached, written, output)
