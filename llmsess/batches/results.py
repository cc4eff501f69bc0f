"""A job's items written out, at any time, in the order of the input: CSV, JSON lines, OpenAI's two files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from llmsess import crashpoints
from llmsess.batches import resultlines
from llmsess.batches.viewing import Item, get, stream_items
from llmsess.db import database
from llmsess.errors import InvalidInput, did_you_mean
from llmsess.exporters.csv_rows import cell
from llmsess.models import BatchJob, dump_json, usd
from llmsess.writing import blocks, message_by_id

FORMATS = ("csv", "jsonl", "openai")
FIELDS = ("key", "position", "status", "attempts", "content", "error", "error_kind", "session_id", "message_id",
          "model", "input_tokens", "output_tokens", "cost_usd", "latency_ms", "finish_reason")  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """How many items were written, with an answer and without; together all of the job."""

    answered: int
    others: int


def export(job: str | BatchJob, format: str, out: IO[str], errors: IO[str] | None = None) -> Exported:
    """Write every item of a job, answered or not, in the order of the input, and return how many.

    `format` is csv, jsonl or openai; the last writes items without an answer to `errors`, where that is given, else to
    `out` too. Raises NotFound, InvalidInput.
    """
    if format not in FORMATS:
        raise InvalidInput(f'"{format}" is no format of results{did_you_mean(format, FORMATS)}',
                           hint=f"one of {', '.join(FORMATS)}")  # fmt: skip
    found, answered, count = get(job), 0, 0
    write = _WRITERS[format](found, out, errors or out)
    for count, item in enumerate(stream_items(found), 1):
        answered += has_answer(item)
        write(item)
        if count == found.total_items // 2:
            crashpoints.reach("batch.exporting")
    return Exported(answered, count - answered)


def has_answer(item: Item) -> bool:
    """Return whether an item is done, and its answer is there still."""
    return item.status == "done" and item.content is not None


def record(item: Item) -> dict[str, Any]:
    """Return an item as `batch show --json` and the lines of an export have it."""
    cost = usd(item.cost)
    return {
        "key": item.key, "position": item.position, "status": item.status, "attempts": item.attempts,
        "input": item.input, "content": item.content, "error": item.error, "error_kind": item.error_kind,
        "session_id": item.session, "message_id": item.message, "model": item.model,
        "input_tokens": item.input_tokens, "output_tokens": item.output_tokens,
        "cost_usd": None if cost is None else format(cost.normalize(), "f"), "latency_ms": item.latency_ms,
        "finish_reason": item.finish_reason,
    }  # fmt: skip


def _jsonl(job: BatchJob, out: IO[str], errors: IO[str]) -> Callable[[Item], object]:
    return lambda item: out.write(f"{dump_json(record(item))}\n")


_KEYS = """
    SELECT e.key FROM batch_items i, json_each(i.input) e WHERE i.job_id = ? AND e.type NOT IN ('object', 'array')
    GROUP BY e.key ORDER BY min(i.position), min(e.id)
"""


def _csv(job: BatchJob, out: IO[str], errors: IO[str]) -> Callable[[Item], object]:
    """Return what writes a row of an item: what its input says, then what became of it."""
    keys = [row[0] for row in database.execute_sql(_KEYS, (job.id,)).fetchall()]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(cell(f"input_{key}" if key in FIELDS else key) for key in keys), *FIELDS])

    def write(item: Item) -> None:
        row = record(item)
        writer.writerow([cell(_plain(item.input.get(key))) for key in keys] + [cell(row[name]) for name in FIELDS])

    return write


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def _openai(job: BatchJob, out: IO[str], errors: IO[str]) -> Callable[[Item], object]:
    def write(item: Item) -> None:
        done = has_answer(item)
        line = resultlines.openai_line(item, _message(item) if done else None)
        (out if done else errors).write(f"{dump_json(line)}\n")

    return write


def _message(item: Item) -> dict[str, Any]:
    """Return the answer of an item as a message of OpenAI's, with its calls of tools."""
    calls = []
    found = blocks(message_by_id(item.message_id)) if item.message_id and item.has_parts else None
    for i, block in enumerate(found or ()):
        if isinstance(block, dict) and block.get("type") == "tool_use":
            given = block.get("input")
            arguments = given if isinstance(given, str) else dump_json(given)
            function = {"name": block.get("name"), "arguments": arguments}
            calls.append({"id": block.get("id") or f"call_{i}", "type": "function", "function": function})
    said = {"role": "assistant", "content": item.content or (None if calls else "")}
    return said | ({"tool_calls": calls} if calls else {})


_WRITERS = {"csv": _csv, "jsonl": _jsonl, "openai": _openai}
