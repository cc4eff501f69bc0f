"""What the records of an importer are as columns: of a session, and of a message with its tokens and its price."""

from __future__ import annotations

from typing import Any

from llmsess import prices, texts
from llmsess.importers.base import MessageRecord, SessionRecord
from llmsess.matching import ImportFile
from llmsess.models import dump_json, new_uuid, time_text

MAX_ERROR_CHARACTERS = 300
REPLACED = (  # of a message, by a newer version of it
    "reasoning", "tool_text", "parts", "content_sha256", "reasoning_sha256", "tool_text_sha256", "model_id",
    "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "usage", "cost",
    "cost_source", "latency_ms", "ttft_ms", "finish_reason", "error", "metadata",
)  # fmt: skip


def session_values(file: ImportFile, record: SessionRecord) -> dict[str, Any]:
    """Return the columns of a session as its record tells them."""
    model = file.model(record.model)
    started = time_text(record.started_at) if record.started_at else None
    title = texts.clean(record.title) if record.title else None
    return {
        "uuid": new_uuid(),
        "title": title,
        "imported_title": title,
        "session_type": "imported",
        "status": "active",
        "source": file.format,
        "external_id": record.external_id,
        "project_id": file.project(record.project) if record.project else None,
        "model_id": model.id if model else None,
        "system_prompt": texts.clean(record.system_prompt) if record.system_prompt else None,
        "parent_external_id": record.parent_external_id,
        "relation": record.relation,
        "metadata": dump_json(record.metadata) if record.metadata else None,
        "next_sequence": 1,
        "started_at": started,
        "last_activity_at": started or file.mtime,  # the nearest to when it was said that is known
    }


def message_values(file: ImportFile, record: MessageRecord) -> dict[str, Any]:
    """Return the columns that say what a message says and what it cost, those that are NULL left out."""
    packed, values = record.packed, {"content": record.packed.content}
    optional: dict[str, Any] = {"reasoning": packed.reasoning, "tool_text": packed.tool_text, "parts": packed.parts}
    model = file.model(record.model)
    if model is not None:
        optional["model_id"] = model.id
    optional |= record.usage.fields() | {"usage": dict(record.raw_usage) if record.raw_usage else None}
    if record.origin == "model":
        price = prices.price(model, record.usage, at=record.created_at, reported_usd=record.cost_usd)
        optional |= {"cost": price.cost, "cost_source": price.source, "finish_reason": record.finish_reason}
        optional |= {"latency_ms": record.latency_ms, "ttft_ms": record.ttft_ms}
    if record.error:
        optional["error"] = texts.clean(record.error)[:MAX_ERROR_CHARACTERS]
    return texts.stored(values | {name: value for name, value in optional.items() if value is not None})
