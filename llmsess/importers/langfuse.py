"""Langfuse's traces: `{"trace": {...}, "observations": [...]}`, traces with observations, or lines of observations.

Traces of one `sessionId` are one conversation. Only generations are read: what tools did is told again in the next
generation's input. Usage has many names; the input includes what was cached. Costs are Langfuse's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmsess.importers.base import Bad, Ignored, Item, SessionRecord, Whole
from llmsess.importers.reading import (
    guessed_reference,
    mapping,
    mappings,
    moment,
    number_or_none,
    records,
    text_or_none,
)
from llmsess.importers.source import Head, Source
from llmsess.importers.spans import Conversation, Generation, messages_of
from llmsess.models import reported_usd, token_count
from llmsess.prices import Usage

NAME = "langfuse"
DESCRIPTION = "Langfuse traces (JSON, with observations) and observation lines"
PLACES = ()
TOLD = ("userId", "tags", "release", "version", "environment")
INPUT = ("input", "input_tokens", "prompt_tokens", "promptTokens")
OUTPUT = ("output", "output_tokens", "completion_tokens", "completionTokens")
CACHED = ("input_cache_read", "prompt_details.cache_read", "cache_read_input_tokens", "input_cached_tokens")
WRITTEN = ("input_cache_creation", "cache_creation_input_tokens")
REASONING = ("completion_details.reasoning", "output_reasoning", "output_reasoning_tokens", "reasoning_tokens")


def matches(head: Head) -> bool:
    """Return whether the first objects are traces or observations."""
    return any(_observations(record) is not None for record in head.objects)


def _observations(record: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the observations of a record, None where it is none of Langfuse's."""
    trace = mapping(record.get("trace"))
    for owner in (record, trace):
        if isinstance(owner.get("observations"), list) and ("id" in trace or "id" in record):
            return mappings(owner["observations"])
    return [record] if "traceId" in record and "type" in record and "startTime" in record else None


def read(source: Source) -> Iterator[Item]:
    """Yield the conversations of a file."""
    known: dict[str, Conversation] = {}
    for record, value, problem in records(source):
        observations = _observations(value) if isinstance(value, dict) else None
        if problem is not None or observations is None:
            yield Bad(record, problem or "no trace: it has no observations")
            continue
        trace = mapping(value.get("trace")) or value
        called = [one for one in observations if str(one.get("type")).upper() == "GENERATION"]
        called.sort(key=lambda one: str(one.get("startTime")))
        generations = [found for one in called if (found := generation(one)).answered or found.given]
        if not called and observations != [trace]:
            generations = [given for given in [generation(trace)] if given.answered]  # what the trace itself tells
        if not generations:
            yield Ignored(record)
            continue
        trace_id = text_or_none(trace.get("traceId")) or text_or_none(trace.get("id"))
        name = text_or_none(trace.get("sessionId")) or trace_id or "trace"
        if name not in known:
            known[name] = Conversation(name)
            yield session(name, trace, called)
        for one in generations:
            yield from known[name].items(one)
        yield Whole(record._replace(external_id=trace_id))


def session(name: str, trace: dict[str, Any], called: list[dict[str, Any]]) -> SessionRecord:
    """Return the session of a trace."""
    times = [moment(one.get("startTime")) for one in called] or [moment(trace.get("timestamp"))]
    return SessionRecord(
        name,
        title=text_or_none(trace.get("name")),
        started_at=min((time for time in times if time is not None), default=None),
        metadata={key: trace[key] for key in TOLD if trace.get(key)} or None,
    )


def generation(one: dict[str, Any]) -> Generation:
    """Return an observation as one call of a model."""
    counted = mapping(one.get("usageDetails")) or mapping(one.get("usage"))
    costs = mapping(one.get("costDetails"))
    cost = reported_usd(costs.get("total", one.get("calculatedTotalCost", one.get("totalCost"))))
    given = {name: _first(counted, keys) for name, keys in (("input", INPUT), ("cached", CACHED), ("written", WRITTEN))}
    inside = "input_cache_read" not in counted and "cache_read_input_tokens" not in counted
    total = given["input"]
    if total is not None and not inside:
        total += (given["cached"] or 0) + (given["written"] or 0)
    started, ended = moment(one.get("startTime")), moment(one.get("endTime"))
    took, first = number_or_none(one.get("latency")), number_or_none(one.get("timeToFirstToken"))
    model = text_or_none(one.get("model")) or text_or_none(one.get("providedModelName"))
    told = {
        "model": guessed_reference(model, "unknown"),
        "usage": Usage(total, given["cached"], given["written"], _first(counted, OUTPUT), _first(counted, REASONING)),
        "raw_usage": counted or None,
        "cost_usd": cost if cost or counted else None,
        "latency_ms": milliseconds(took),
        "ttft_ms": milliseconds(first),
        "error": text_or_none(one.get("statusMessage")) if one.get("level") == "ERROR" else None,
        "created_at": ended or started,
    }
    answered = messages_of(one.get("output"), "assistant")
    return Generation(messages_of(one.get("input"), "user"), answered, started, told)


def milliseconds(seconds: float | None) -> int | None:
    """Return seconds as milliseconds, None for what can be no duration."""
    return round(seconds * 1000) if seconds is not None and 0 <= seconds < 10**6 else None


def _first(counted: dict[str, Any], keys: tuple[str, ...]) -> int | None:
    return next((count for key in keys if (count := token_count(counted.get(key))) is not None), None)
