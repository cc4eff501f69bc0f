"""Logs of Inspect AI evaluations: `.json`, and `.eval`, an archive with a file for each sample.

A sample in an epoch is a conversation. Long texts and pictures are `attachment://<hash>` and lie in the sample, or in a
pool that newer logs refer to by ranges. Tokens are told by the events of the calls, each of which names the message it
gave; where they do not, the sample's total goes to its last answer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from llmsess.importers import blocks
from llmsess.importers.base import Bad, Ignored, Item, SessionRecord, Whole
from llmsess.importers.chains import Turn, linear
from llmsess.importers.reading import digest, mapping, mappings, moment, number_or_none, records, sequence, text_or_none
from llmsess.importers.source import Head, Source
from llmsess.models import reported_usd, token_count
from llmsess.prices import Usage

NAME = "inspect"
DESCRIPTION = "Inspect AI logs (.json, .eval)"
PLACES = ("logs/*.eval",)
ROLES = ("system", "user", "assistant", "tool")
ATTACHMENT = "attachment://"
MAX_HEADER_BYTES = 64 * 1024 * 1024


def matches(head: Head) -> bool:
    """Return whether the file is a log, or a sample of one."""
    return any(_is_log(record) or _is_sample(record) for record in head.objects)


def _is_log(record: dict[str, Any]) -> bool:
    return "eval" in record and "status" in record and "version" in record and "samples" in record


def _is_sample(record: dict[str, Any]) -> bool:
    return {"id", "epoch", "messages", "target"} <= record.keys()


def is_part(head: Head) -> bool:
    """Return whether a member of an archive is no sample but about the whole run."""
    return any(
        ("eval" in record and ("plan" in record or "version" in record))
        or {"scorer", "samples"} <= record.keys()
        or ({"id", "epoch", "target"} <= record.keys() and "messages" not in record)
        for record in head.objects
    )


def read(source: Source) -> Iterator[Item]:
    """Yield the samples of a log, or of a file of an archive."""
    run = _run(source)
    for record, value, problem in records(source, "samples"):
        if problem is not None or not isinstance(value, dict) or not isinstance(value.get("messages"), list):
            empty = problem is None and isinstance(value, dict) and _is_log(value)
            yield Ignored(record) if empty else Bad(record, problem or "no sample: it has no messages")
            continue
        yield from sample(value, run)
        yield Whole(record)


def _run(source: Source) -> dict[str, Any]:
    """Return what is told of the whole run: in the log before its samples, in an archive in `header.json`."""
    here = next((record for record in source.head().objects if "eval" in record), None)
    if here is not None or source.member is None:
        return mapping(mapping(here).get("eval"))
    header = next((file for file in source.files("..") if str(file.member).endswith("header.json")), None)
    data = header.read(MAX_HEADER_BYTES) if header is not None else None
    with contextlib.suppress(ValueError, RecursionError):
        return mapping(mapping(json.loads(data or b"{}")).get("eval"))
    return {}


def sample(value: dict[str, Any], run: dict[str, Any]) -> Iterator[Item]:
    """Yield the session and the messages of a sample."""
    model = text_or_none(run.get("model"))
    of_run = text_or_none(run.get("eval_id")) or text_or_none(run.get("run_id"))
    own = text_or_none(value.get("uuid")) or f"{of_run or digest(value)}/{value.get('id')}/{value.get('epoch')}"
    task, epoch = text_or_none(run.get("task")), value.get("epoch", 1)
    named = f"{task or 'sample'} {value.get('id')}" + (f" ({epoch})" if epoch != 1 else "")
    scores = {name: mapping(score).get("value") for name, score in mapping(value.get("scores")).items()}
    told = {"task": task, "sample": value.get("id"), "epoch": epoch, "scores": scores or None}
    told |= {"target": value.get("target"), "run": of_run}
    session = SessionRecord(
        own,
        title=named,
        project=task,
        model=model if model and "/" in model else None,
        started_at=moment(value.get("started_at")),
        metadata={key: item for key, item in told.items() if item is not None},
    )
    yield from linear(session, list(turns(value, session.model)))


def turns(value: dict[str, Any], model: str | None) -> Iterator[Turn]:
    """Yield the messages of a sample; the calls that gave them tell tokens and times."""
    attachments = mapping(value.get("attachments"))
    calls = {}
    for event in mappings(value.get("events")):
        for choice in mappings(mapping(event.get("output")).get("choices")):
            calls[str(mapping(choice.get("message")).get("id"))] = event
    messages = mappings(value["messages"])
    answers = [message for message in messages if message.get("role") == "assistant"]
    untold = not any(mapping(mapping(event.get("output")).get("usage")) for event in calls.values())
    for message in messages:
        role = str(message.get("role"))
        told: dict[str, Any] = {}
        if role == "assistant":
            event = calls.get(str(message.get("id")), {})
            total = _sum(mapping(value.get("model_usage"))) if untold and message is answers[-1] else {}
            told = answered(message, event, model, total)
        elif role == "user" and message.get("source") == "generate":
            told = {"origin": "model"}
        content = list(content_of(message, attachments))
        yield Turn(role if role in ROLES else "event", content, told)


def answered(
    message: dict[str, Any], event: dict[str, Any], model: str | None, total: dict[str, Any]
) -> dict[str, Any]:
    """Return what is known of an answer beside its content."""
    output = mapping(event.get("output"))
    counted = mapping(output.get("usage")) or total
    named = text_or_none(message.get("model")) or text_or_none(output.get("model"))
    provider = (model or "unknown/").partition("/")[0]
    took = number_or_none(output.get("time"))
    stop = [choice.get("stop_reason") for choice in mappings(output.get("choices"))]
    return {
        "model": model if not named else named if "/" in named else f"{provider}/{named}",
        "usage": tokens(counted) if counted else Usage(),
        "raw_usage": counted or None,
        "cost_usd": reported_usd(counted.get("total_cost")),
        "latency_ms": round(took * 1000) if took is not None and 0 <= took < 10**6 else None,
        "finish_reason": text_or_none(stop[0]) if stop else None,
        "created_at": moment(event.get("completed") or event.get("timestamp")),
    }


def _sum(usage: dict[str, Any]) -> dict[str, Any]:
    """Return the sums of the usage of all models."""
    found: dict[str, Any] = {}
    for counted in usage.values():
        for key, count in mapping(counted).items():
            if token_count(count) is not None:
                found[key] = found.get(key, 0) + count
    return found


def content_of(message: dict[str, Any], attachments: dict[str, Any]) -> Iterator[Any]:
    """Yield the content of a message, its calls of tools, or what a tool answered."""
    content = resolved(message.get("content"), attachments)
    said: list[Any] = [blocks.text(content)] if isinstance(content, str) and content else []
    said += [block(item, attachments) for item in sequence(content)]
    if message.get("role") == "tool":
        failed = {"is_error": True, "error": message["error"]} if message.get("error") else {}
        plain = content if isinstance(content, str) else said
        yield blocks.tool_result(message.get("tool_call_id"), plain, message.get("function"), **failed)
        return
    yield from said
    for call in mappings(message.get("tool_calls")):
        yield blocks.tool_use(call.get("id"), call.get("function"), resolved(call.get("arguments"), attachments))


def resolved(value: Any, attachments: dict[str, Any]) -> Any:
    """Return a value, a reference to an attachment replaced by what it refers to."""
    if isinstance(value, str) and value.startswith(ATTACHMENT):
        found = attachments.get(value.removeprefix(ATTACHMENT))
        return found if isinstance(found, str) else value
    if isinstance(value, dict):
        return {key: resolved(item, attachments) for key, item in value.items()}
    return value


def block(item: Any, attachments: dict[str, Any]) -> Any:
    """Return a block of Inspect's content as ours."""
    found = resolved(item, attachments)
    kind = found.get("type") if isinstance(found, dict) else None
    if kind in ("image", "audio", "video"):
        return blocks.from_data_url(kind, found.get(kind)) or found
    if kind == "reasoning":
        return blocks.thinking(str(found.get("reasoning") or ""))
    return found


def tokens(counted: dict[str, Any]) -> Usage:
    """Return Inspect's counts as ours; its input leaves out the cache where the provider's does."""
    keys = ("input_tokens", "input_tokens_cache_read", "input_tokens_cache_write", "output_tokens", "reasoning_tokens")
    given, cached, written, output, thought = (token_count(counted.get(key)) for key in keys)
    total = token_count(counted.get("total_tokens"))
    parts = (given or 0) + (cached or 0) + (written or 0)
    if given is not None and total is not None and total == parts + (output or 0):
        given = parts
    return Usage(given, cached, written, output, thought)
