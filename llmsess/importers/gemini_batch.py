"""Batches and request logs of Gemini's API: JSON lines of `{"request": {"contents": [...]}, "response": {...}}`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmsess.importers.base import Bad, Item, SessionRecord, Whole
from llmsess.importers.chains import Turn, linear
from llmsess.importers.gemini_cli import content_of
from llmsess.importers.reading import digest, mapping, mappings, moment, records, reference, text_or_none
from llmsess.importers.source import Head, Source
from llmsess.models import token_count
from llmsess.prices import Usage

NAME = "gemini-batch"
DESCRIPTION = "Gemini API batch lines and request logs (.jsonl)"
PLACES = ()
ROLES = {"user": "user", "model": "assistant", "function": "tool"}


def matches(head: Head) -> bool:
    """Return whether the first lines have contents and candidates of Gemini's API."""
    return any(_contents(record) or "candidates" in mapping(record.get("response")) for record in head.objects)


def _contents(record: dict[str, Any]) -> list[dict[str, Any]]:
    return mappings(mapping(record.get("request")).get("contents")) or mappings(record.get("contents"))


def read(source: Source) -> Iterator[Item]:
    """Yield the conversations of a file."""
    for record, value, problem in records(source):
        given = _contents(value) if isinstance(value, dict) else []
        answers = mappings(mapping(value.get("response")).get("candidates")) if isinstance(value, dict) else []
        if problem is not None or not (given or answers):
            yield Bad(record, problem or "no conversation: neither contents nor candidates")
            continue
        response = mapping(value.get("response"))
        system = mapping(mapping(value.get("request")).get("systemInstruction"))
        spoken = [text for part in mappings(system.get("parts")) if (text := text_or_none(part.get("text")))]
        session = SessionRecord(
            f"gemini:{text_or_none(response.get('responseId')) or digest(given, answers)}",
            started_at=moment(response.get("createTime")),
            system_prompt="\n".join(spoken) or None,
            metadata={"custom_id": value["custom_id"]} if text_or_none(value.get("custom_id")) else None,
        )
        said = [
            Turn(ROLES.get(str(content.get("role")), "user"), content_of(content.get("parts"))) for content in given
        ]
        yield from linear(session, [*said, *(answered(answer, response) for answer in answers[:1])])
        yield Whole(record._replace(external_id=text_or_none(value.get("custom_id"))))


def turn(content: dict[str, Any]) -> Turn:
    """Return one of the contents of a request."""
    return Turn(ROLES.get(str(content.get("role")), "user"), content_of(content.get("parts")))


def answered(answer: dict[str, Any], response: dict[str, Any]) -> Turn:
    """Return what the model answered, with its tokens."""
    counted = mapping(response.get("usageMetadata"))
    written, thoughts = token_count(counted.get("candidatesTokenCount")), token_count(counted.get("thoughtsTokenCount"))
    told = {
        "model": reference("google", text_or_none(response.get("modelVersion"))),
        "usage": Usage(
            token_count(counted.get("promptTokenCount")),
            token_count(counted.get("cachedContentTokenCount")),
            None,
            None if written is None else written + (thoughts or 0),
            thoughts,
        ),
        "raw_usage": counted or None,
        "finish_reason": text_or_none(answer.get("finishReason")),
        "created_at": moment(response.get("createTime")),
    }
    return Turn("assistant", content_of(mapping(answer.get("content")).get("parts")), told)
