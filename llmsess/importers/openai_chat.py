"""Conversations as OpenAI's chat API has them: JSON lines (or an array) of `{"messages": [...]}`.

Fine-tuning data (preferences too), request logs, hand-kept files, batch input and batch output. There are no ids and no
times, so a message is known by the hash of all that comes before it and itself. A log repeats the whole history in
each request: a record that begins as another one did, the first prompt included, adds to its tree only what is new,
beside what it departs from. Two equal records are one conversation.

Batch output holds no prompts: they are looked up by `custom_id` in the batch input beside it, so that both files give
the same conversations in either order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmsess.importers.base import Bad, Ignored, InputRecord, Item, MessageRecord, SessionRecord, Whole
from llmsess.importers.reading import mapping, mappings, moment, records, reference, sequence, text_or_none
from llmsess.importers.siblings import Requests
from llmsess.importers.source import Head, Source
from llmsess.models import token_count
from llmsess.parts import Packed, pack
from llmsess.prices import Usage

NAME = "openai-chat"
DESCRIPTION = "OpenAI chat JSONL: fine-tuning data, preferences, request logs, batch input and output"
PLACES = ()
ROLES = {"system": "system", "developer": "developer", "user": "user", "assistant": "assistant", "tool": "tool",
         "function": "tool"}  # fmt: skip
ORIGINS = {"user": "human", "assistant": "model", "tool": "tool"}
TOLD = ("tools", "functions", "parallel_tool_calls", "temperature", "max_tokens", "response_format", "custom_id")
ENVELOPES = ("body", "request", "input")  # keys under which a record may have its request
ANTHROPIC_BLOCKS = ("tool_use", "tool_result", "thinking", "redacted_thinking", "image", "document")


def matches(head: Head) -> bool:
    """Return whether the first records are conversations in OpenAI's form."""
    requests = [request for record in head.objects if (request := _request(record)) is not None]
    return any(map(_is_ours, head.objects)) and not any(map(is_anthropic, requests))


def _is_ours(record: dict[str, Any]) -> bool:
    request = _request(record)
    if request is not None:
        return not is_anthropic(request)
    response = mapping(mapping(record.get("response")).get("body"))
    return "custom_id" in record and ("choices" in response or response.get("object") == "response")


def is_anthropic(request: dict[str, Any]) -> bool:
    """Return whether a request is written for Anthropic's API, which is alike."""
    if "system" in request or str(request.get("model")).startswith("claude"):
        return True
    contents = [message.get("content") for message in mappings(request.get("messages"))]
    return any(block.get("type") in ANTHROPIC_BLOCKS for content in contents for block in mappings(content))


def _request(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return the request of a record, which has the messages; None where there is none."""
    if {"epoch", "target"} <= record.keys():
        return None  # a sample of Inspect's, which is alike
    for request in (record, *(mapping(record.get(key)) for key in ENVELOPES)):
        messages = request.get("messages")
        if isinstance(messages, list) and all(isinstance(message, dict) and "role" in message for message in messages):
            return request
    return None


def read(source: Source) -> Iterator[Item]:
    """Yield the conversations of a file: of JSON lines, or of one document, an array or an object."""
    beside = Requests(source, _request)
    for record, value, problem in records(source):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the line is no object")
        else:
            yield from conversation(record, value, beside)


@dataclass
class Answer:
    """What a model answered: its messages, and what the response says of them."""

    messages: list[dict[str, Any]]
    response: dict[str, Any] = field(default_factory=dict)
    finish_reason: str | None = None
    error: str | None = None


def conversation(record: InputRecord, value: dict[str, Any], beside: Requests) -> Iterator[Item]:
    """Yield the session and the messages of one input record."""
    answers = _answers(value)
    custom_id = text_or_none(value.get("custom_id"))
    record = record._replace(external_id=custom_id)
    request = _request(value) or (beside.find(custom_id) if answers else None)
    messages = sequence(request["messages"]) if request else []
    said = [message for answer in answers for message in answer.messages]
    unknown = [message["role"] for message in [*messages, *said] if str(message["role"]) not in ROLES]
    if request is None and not answers:
        yield Bad(record, "no conversation: it has no list of messages with roles")
    elif unknown:
        yield Bad(record, f"unknown role {json.dumps(unknown[0])[:40]}")
    elif not messages and not answers:
        yield Ignored(record, "a conversation without messages")
    else:
        yield from _tree(value, request or {}, messages, answers)
        yield Whole(record)


def _answers(value: dict[str, Any]) -> list[Answer]:
    """Return the answers of a record: the choices of a response, its error, or a preferred and another output."""
    preferred = [_roled(value.get(key)) for key in ("preferred_output", "non_preferred_output")]
    if any(preferred):
        return [Answer(messages) for messages in preferred if messages]
    envelope = mapping(value.get("response"))
    response = mapping(envelope.get("body")) or envelope
    if "choices" in response:
        return [
            Answer([mapping(choice.get("message"))], response, text_or_none(choice.get("finish_reason")))
            for choice in mappings(response["choices"])
            if "role" in mapping(choice.get("message"))
        ]
    if response.get("object") == "response":
        blocks = [block for item in mappings(response.get("output")) for block in _blocks(item)]
        return [Answer([{"role": "assistant", "content": blocks}], response, text_or_none(response.get("status")))]
    error = mapping(value.get("error")) or mapping(response.get("error"))
    if "custom_id" in value and error:
        told = text_or_none(error.get("message")) or text_or_none(error.get("code")) or "failed"
        return [Answer([{"role": "assistant", "content": None}], error=told)]
    return []


def _roled(value: Any) -> list[dict[str, Any]]:
    return [message for message in mappings(value) if "role" in message]


def _blocks(item: dict[str, Any]) -> list[Any]:
    return sequence(item.get("content")) if item.get("type") == "message" else [item]


def _tree(
    value: dict[str, Any], request: dict[str, Any], messages: list[dict[str, Any]], answers: list[Answer]
) -> Iterator[Item]:
    """Yield a session whose messages are a chain with one or several answers at its end."""
    model = text_or_none(request.get("model"))
    chain = _Chain(messages or answers[0].messages)
    told = {key: request.get(key, value.get(key)) for key in TOLD if request.get(key, value.get(key)) is not None}
    started = moment(request.get("created"))
    ends = [chain.ids([*messages, *answer.messages]) for answer in answers]
    head = ends[0][-1] if ends and ends[0] else None
    yield SessionRecord(chain.session, model=openai_model(model), metadata=told or None, started_at=started, head=head)
    yield from chain.items(messages, chain.ids(messages), 0, Answer([], {"model": model}))
    for answer, ids in zip(answers, ends, strict=True):
        yield from chain.items([*messages, *answer.messages], ids, len(messages), answer)


class _Chain:
    """How the messages of a record are known: by the hash of what comes before them and themselves."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        hashes = chain_hashes(messages)
        self.root = next((i for i, message in enumerate(messages) if message["role"] == "user"), len(messages) - 1)
        self.named = hashes[self.root]
        self.session = f"chat:{self.named}"

    def ids(self, messages: list[dict[str, Any]]) -> list[str]:
        hashes = chain_hashes(messages)
        return [hashes[i] if i >= self.root else f"{self.named}:{i}" for i in range(len(messages))]

    def items(self, messages: list[dict[str, Any]], ids: list[str], first: int, answer: Answer) -> Iterator[Item]:
        """Yield the messages from the `first` on."""
        response = answer.response
        usage = mapping(response.get("usage"))
        for i in range(first, len(messages)):
            message, role = messages[i], ROLES[messages[i]["role"]]
            last = i == len(messages) - 1
            yield MessageRecord(
                self.session,
                ids[i],
                ids[i - 1] if i else None,
                role,
                ORIGINS.get(role, "harness"),
                packed(message),
                model=openai_model(text_or_none(response.get("model"))) if role == "assistant" else None,
                usage=tokens(usage) if last and usage else Usage(),
                raw_usage=usage or None if last else None,
                finish_reason=answer.finish_reason if last else None,
                error=answer.error if last else None,
                created_at=moment(response.get("created") or response.get("created_at")) if last else None,
                metadata=_extra(message),
            )


def tokens(usage: dict[str, Any]) -> Usage:
    """Return OpenAI's usage object, of chat or of responses, as ours; its input includes what was cached."""
    read = mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    written = mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    return Usage(
        token_count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        token_count(read.get("cached_tokens")),
        None,
        token_count(usage.get("completion_tokens", usage.get("output_tokens"))),
        token_count(written.get("reasoning_tokens")),
    )


def chain_hashes(messages: list[dict[str, Any]]) -> list[str]:
    """Return for each message the hash of the conversation up to it; what is empty in a message does not count."""
    so_far, hashes = b"", []
    for message in messages:
        if len(message) > 2:
            message = {key: value for key, value in message.items() if value not in (None, [], {})}
        content = message.get("content")
        if len(message) == 2 and isinstance(content, str):  # most are so, and this is four times as fast
            text = f"{message['role']}\0{content}"
        else:
            text = json.dumps(message, ensure_ascii=False, sort_keys=True)
        # surrogatepass: a lone surrogate is a text too, and must not collide with another
        so_far = hashlib.sha256(so_far + text.encode("utf-8", "surrogatepass")).digest()
        hashes.append(so_far.hex()[:32])
    return hashes


def openai_model(model: str | None) -> str | None:
    """Return a model of such a file as provider/name: as it stands where it names its provider."""
    return reference("openai", model)


def packed(message: dict[str, Any]) -> Packed:
    """Return a message's content with its tool calls, or what a tool answered, packed."""
    blocks = blocks_of(message)
    return pack(blocks) if blocks else Packed()


def blocks_of(message: dict[str, Any]) -> list[Any]:
    """Return a message's content with its tool calls, or what a tool answered, as blocks."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        blocks: list[Any] = [{"type": "text", "text": content}] if content else []
    else:
        blocks = content if isinstance(content, list) else [content]
    if ROLES[message["role"]] == "tool":
        result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": content}
        return [result | ({"name": message["name"]} if message.get("name") else {})]
    calls = message.get("tool_calls") if isinstance(message.get("tool_calls"), list) else []
    if isinstance(message.get("function_call"), dict):
        calls = [*(calls or []), {"type": "function", "function": message["function_call"]}]
    if message.get("refusal"):
        blocks = [*blocks, {"type": "refusal", "refusal": message["refusal"]}]
    return [*blocks, *(calls or [])]


def _extra(message: dict[str, Any]) -> dict[str, Any] | None:
    known = ("role", "content", "tool_calls", "function_call", "tool_call_id", "refusal")
    return {key: value for key, value in message.items() if key not in known and value is not None} or None
