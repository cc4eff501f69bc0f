"""Spans of OpenInference and of OpenTelemetry's conventions for generative AI, as JSON or JSON lines.

Read as OTLP (`resourceSpans`), as SDKs print them (`context`, `attributes`), or as bare attributes. OpenInference
flattens messages into keys (`llm.input_messages.0.message.role`); OpenTelemetry has had three spellings: events for
each message, JSON in `gen_ai.prompt`, and `gen_ai.input.messages`. A conversation is told by its id, else by the trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from llmsess.importers.base import Bad, Ignored, Item, SessionRecord, Whole
from llmsess.importers.reading import (
    digest,
    guessed_reference,
    mapping,
    mappings,
    moment,
    records,
    reference,
    text_or_none,
)
from llmsess.importers.source import Head, Source
from llmsess.importers.spans import Conversation, Generation, Said, messages_of
from llmsess.models import token_count
from llmsess.prices import Usage

NAME = "openinference"
DESCRIPTION = "OpenInference and OpenTelemetry GenAI spans (OTLP JSON, JSON lines, attributes)"
PLACES = ()
MARKS = ("gen_ai.", "llm.", "openinference.", "input.value")
EVENTS = {"gen_ai.user.message": "user", "gen_ai.assistant.message": "assistant", "gen_ai.system.message": "system",
          "gen_ai.tool.message": "tool", "gen_ai.choice": "assistant"}  # fmt: skip
OTHER_WORK = ("execute_tool", "embeddings", "invoke_agent", "create_agent")  # operations that are no call of a model
COUNTS = re.compile(r"gen_ai\.usage|token_count")
MAX_INDEX = 100_000  # of a flattened list: a larger one is a mistake

Attributes = dict[str, Any]


def matches(head: Head) -> bool:
    """Return whether the first objects are spans that tell of a model."""
    return any(isinstance(record.get("resourceSpans"), list) or _is_span(record) for record in head.objects)


def _is_span(record: dict[str, Any]) -> bool:
    attributes = record.get("attributes")
    keys = [*record, *(attributes if isinstance(attributes, dict) else [])]
    return any(str(key).startswith(MARKS) for key in keys)


def read(source: Source) -> Iterator[Item]:
    """Yield the conversations of a file."""
    known: dict[str, Conversation] = {}
    for record, value, problem in records(source, "resourceSpans", "spans"):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the span is no object")
            continue
        told = False
        for span in spans(value):
            for item in conversation(span, known):
                yield item
                told = True
        yield Whole(record) if told else Ignored(record)


def spans(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the spans of a record with their attributes as an object."""
    scopes = mappings(value.get("scopeSpans")) or mappings(value.get("instrumentationLibrarySpans"))
    nested = [inner for outer in mappings(value.get("resourceSpans")) for inner in mappings(outer.get("scopeSpans"))]
    found = [span for scope in [*scopes, *nested] for span in mappings(scope.get("spans"))]
    for span in found or [value]:
        attributes = span.get("attributes")
        if isinstance(attributes, list):
            attributes = {str(pair.get("key")): plain(pair.get("value")) for pair in mappings(attributes)}
        yield span | {"attributes": attributes if isinstance(attributes, dict) else span}


def plain(value: Any) -> Any:
    """Return a value of OTLP, which names its type, as JSON."""
    for kind, inner in mapping(value).items():
        if kind == "intValue":
            return int(inner) if str(inner).lstrip("-").isdigit() and len(str(inner)) < 20 else None
        if kind == "arrayValue":
            return [plain(item) for item in mapping(inner).get("values", []) or []]
        if kind == "kvlistValue":
            return {str(pair.get("key")): plain(pair.get("value")) for pair in mappings(mapping(inner).get("values"))}
        return inner
    return value


def conversation(span: dict[str, Any], known: dict[str, Conversation]) -> Iterator[Item]:
    """Yield the messages of a span that is a call of a model."""
    attributes = span["attributes"]
    kind = str(attributes.get("openinference.span.kind") or "LLM").upper()
    if kind != "LLM" or attributes.get("gen_ai.operation.name") in OTHER_WORK:
        return
    made = generation(span, attributes)
    if not made.given and not made.answered:
        return
    context = mapping(span.get("context"))
    trace = text_or_none(span.get("traceId")) or text_or_none(context.get("trace_id"))
    keys = ("gen_ai.conversation.id", "session.id")
    named = next((name for key in keys if (name := text_or_none(attributes.get(key)))), None)
    session = named or trace or f"span:{digest(attributes)}"
    if session not in known:
        known[session] = Conversation(session)
        yield SessionRecord(session, model=made.told["model"], started_at=made.started_at)
    yield from known[session].items(made)


def generation(span: dict[str, Any], attributes: Attributes) -> Generation:
    """Return a span as one call of a model."""
    started = time_of(span, "startTimeUnixNano", "start_time")
    ended = time_of(span, "endTimeUnixNano", "end_time")
    given, answered = [*system_of(attributes), *inputs(span, attributes)], outputs(span, attributes)
    reasons = attributes.get("gen_ai.response.finish_reasons")
    took = round((ended - started).total_seconds() * 1000) if started and ended and ended >= started else None
    told = {
        "model": model_of(attributes),
        "usage": tokens(attributes),
        "raw_usage": {key: value for key, value in attributes.items() if COUNTS.search(str(key))} or None,
        "finish_reason": text_or_none(reasons[0]) if isinstance(reasons, list) and reasons else None,
        "latency_ms": took if took is not None and took < 10**9 else None,
        "created_at": ended or started,
    }
    return Generation(given, answered, started, told)


def time_of(span: dict[str, Any], nano: str, text: str) -> datetime | None:
    """Return a time of a span, which OTLP has in nanoseconds, as a string."""
    value = span.get(nano)
    if isinstance(value, (str, int)) and str(value).isdigit() and len(str(value)) < 25:
        return moment(int(value) / 1e9)
    return moment(span.get(text))


def model_of(attributes: Attributes) -> str | None:
    keys = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
    name = next((name for key in keys if (name := text_or_none(attributes.get(key)))), None)
    providers = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
    provider = next((found for key in providers if (found := text_or_none(attributes.get(key)))), None)
    return reference(provider, name) if provider else guessed_reference(name, "unknown")


def system_of(attributes: Attributes) -> list[Said]:
    found = messages_of(attributes.get("gen_ai.system_instructions"), "system")
    return [Said("system", said.content) for said in found]


def inputs(span: dict[str, Any], attributes: Attributes) -> list[Said]:
    """Return what was given to the model, in whichever spelling it is there."""
    flat = flattened(attributes, "llm.input_messages.")
    events = [said for said in of_events(span) if said[0] != "gen_ai.choice"]
    if flat or events:
        return [said for message in flat for said in messages_of(message, "user")] or [said for _, said in events]
    keys = ("gen_ai.input.messages", "gen_ai.prompt", "input.value", "input")
    return next((found for key in keys if (found := messages_of(attributes.get(key), "user"))), [])


def outputs(span: dict[str, Any], attributes: Attributes) -> list[Said]:
    """Return what the model answered, in whichever spelling it is there."""
    flat = flattened(attributes, "llm.output_messages.")
    events = [said for name, said in of_events(span) if name == "gen_ai.choice"]
    if flat or events:
        return [said for message in flat for said in messages_of(message, "assistant")] or events[:1]
    keys = ("gen_ai.output.messages", "gen_ai.completion", "output.value", "output")
    return next((found for key in keys if (found := messages_of(attributes.get(key), "assistant"))), [])


def of_events(span: dict[str, Any]) -> list[tuple[str, Said]]:
    """Return the messages that a span tells as events, with their names."""
    found = []
    for event in mappings(span.get("events")):
        name, attributes = str(event.get("name")), event.get("attributes")
        if isinstance(attributes, list):
            attributes = {str(pair.get("key")): plain(pair.get("value")) for pair in mappings(attributes)}
        if name in EVENTS:
            body = mapping(event.get("body")) or mapping(attributes)
            found += [(name, said) for said in messages_of({"role": EVENTS[name]} | body, EVENTS[name])]
    return found


def flattened(attributes: Attributes, prefix: str) -> list[dict[str, Any]]:
    """Return the messages of keys like `llm.input_messages.0.message.role`, as OpenAI's API has them."""
    tree: dict[str, Any] = {}
    for key, value in attributes.items():
        if str(key).startswith(prefix):
            *path, last = str(key).removeprefix(prefix).split(".")
            place = tree
            for name in path[:20]:
                inner = place.setdefault(name, {})
                place = inner if isinstance(inner, dict) else place
            place[last] = value
    return [message(mapping(mapping(tree[index]).get("message"))) for index in indexes(tree)]


def indexes(tree: dict[str, Any]) -> list[str]:
    numbered = [key for key in tree if key.isdecimal() and len(key) < 7 and int(key) < MAX_INDEX]
    return sorted(numbered, key=int)


def message(flat: dict[str, Any]) -> dict[str, Any]:
    """Return a message of OpenInference's names under those of OpenAI's."""
    contents, calls = mapping(flat.get("contents")), mapping(flat.get("tool_calls"))
    parts = [mapping(mapping(contents[index]).get("message_content")) for index in indexes(contents)]
    made = {key: value for key, value in flat.items() if key not in ("contents", "tool_calls")}
    made["role"] = flat.get("role") or "user"
    if parts:
        made["content"] = [part | ({"image_url": part["image"]} if "image" in part else {}) for part in parts]
    made["tool_calls"] = [mapping(mapping(calls[index]).get("tool_call")) for index in indexes(calls)]
    return made


def tokens(attributes: Attributes) -> Usage:
    """Return the counts of a span; its input includes what was cached."""

    def first(*keys: str) -> int | None:
        return next((count for key in keys if (count := token_count(attributes.get(key))) is not None), None)

    return Usage(
        first("gen_ai.usage.input_tokens", "llm.token_count.prompt", "gen_ai.usage.prompt_tokens"),
        first("gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read"),
        first("gen_ai.usage.cache_creation.input_tokens", "llm.token_count.prompt_details.cache_write"),
        first("gen_ai.usage.output_tokens", "llm.token_count.completion", "gen_ai.usage.completion_tokens"),
        first("llm.token_count.completion_details.reasoning"),
    )
