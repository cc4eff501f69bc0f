"""CSV: a row for each message, for spreadsheets and data frames; a cell cannot start a formula."""

from __future__ import annotations

import csv
from typing import IO

from llmsess.exporters.base import Archive, Losses
from llmsess.spreadsheets import harmless

NAME = "csv"
DESCRIPTION = "CSV, a message a row"
SUFFIX = ".csv"
LOSES = "attachments, calls of tools, branches"
OF_SESSION = ("title", "project", "source")
OF_MESSAGE = (
    "role", "origin", "status", "model", "created_at", "content", "reasoning", "input_tokens", "cached_input_tokens",
    "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_usd", "latency_ms", "ttft_ms", "finish_reason",
    "error",
)  # fmt: skip
HEADINGS = ("session_id", *OF_SESSION, "position", "message_id", *OF_MESSAGE)


def write(archive: Archive, out: IO[str], losses: Losses) -> None:
    """Write the headings and a row for each message."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADINGS)
    for conversation in archive.conversations():
        about = [conversation.id, *(getattr(conversation, name) for name in OF_SESSION)]
        for position, said in enumerate(conversation.messages, 1):
            row = [*about, position, said.id, *(getattr(said, name) for name in OF_MESSAGE)]
            writer.writerow(map(cell, row))
            losses["messages whose structure is left out"] += said.blocks() is not None


def cell(value: object) -> object:
    """Return a value as a cell that a spreadsheet takes for no formula."""
    if value is None:
        return ""
    return harmless(value.isoformat() if hasattr(value, "isoformat") else value)
