"""Export: reads sessions for an exporter, one at a time and their messages in small pieces, so that memory is constant.

An archive is read as conversations (the path of each session, hidden messages left out unless they are wanted), or row
by row for llmsess' own format (see dumping.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from llmsess import dumping, exporters, listing, sessions, snapshotrows, writing
from llmsess.db import database
from llmsess.exporters.base import Conversation, Losses, Said
from llmsess.models import TOKEN_FIELDS, LanguageModel, Message, Session, parse_time, usd
from llmsess.redaction import Redactor
from llmsess.salvaging import Reading

BATCH = 200  # sessions listed at once


@dataclass
class ExportReport:
    """What an export wrote, and what its format could not hold."""

    sessions: int = 0
    messages: int = 0
    damaged: int = 0  # messages, heads and snapshots that are gone or cannot be read
    losses: Losses = field(default_factory=Losses)
    redacted: dict[str, int] = field(default_factory=dict)


def run(
    format: str,
    out: IO[str],
    references: Sequence[str | Session] = (),
    filter: listing.SessionFilter | None = None,
    *,
    redact: bool = False,
    hidden: bool = False,
) -> ExportReport:
    """Write sessions in a format to a text stream; without references and a filter all there are.

    `redact` masks what looks like a secret (best effort, see redaction.py); `hidden` writes messages that their tool
    did not show too. Raises NotFound for a session that is not there, InvalidInput for an unknown format.
    """
    exporter = exporters.get(format)
    report = ExportReport()
    redactor = Redactor() if redact else None
    whole = format == "llmsess"
    with database.atomic("DEFERRED"):  # one state of the database from the first row to the last; writers go on
        archive = _Archive(_chosen(references, filter, whole=whole), report, redactor, hidden)
        archive.everything = whole and not references and filter in (None, listing.SessionFilter())
        exporter.write(archive, out, report.losses)
    report.losses = Losses({name: count for name, count in report.losses.items() if count})
    report.redacted = dict(redactor.found) if redactor else {}
    return report


def _chosen(references: Sequence[str | Session], filter: listing.SessionFilter | None, *, whole: bool) -> list[int]:
    """Return the inner ids of the sessions to export, in the order asked for, else as they were made."""
    if references:
        return list(dict.fromkeys(sessions.get(reference).id for reference in references))
    if filter is None or filter == listing.SessionFilter():
        hidden = "" if whole else "WHERE status <> 'deleted'"
        return [row[0] for row in database.execute_sql(f"SELECT id FROM sessions {hidden} ORDER BY id").fetchall()]
    wheres, values = filter.conditions()
    sql = f"SELECT s.id FROM sessions s WHERE {' AND '.join(wheres)} ORDER BY s.id"
    return [row[0] for row in database.execute_sql(sql, values).fetchall()]


class _Archive:
    """What an exporter reads."""

    def __init__(self, chosen: list[int], report: ExportReport, redactor: Redactor | None, hidden: bool) -> None:
        self.chosen, self.report, self.redactor, self.hidden = chosen, report, redactor, hidden
        self.everything = False
        self.models: dict[int, str] = {}

    def masked(self, value: Any) -> Any:
        return value if self.redactor is None else self.redactor.value(value)

    # Conversations

    def conversations(self) -> Iterator[Conversation]:
        """Yield the sessions; their messages are read when they are wanted."""
        for start in range(0, len(self.chosen), BATCH):
            for row in listing.summaries(self.chosen[start : start + BATCH]):
                yield self.conversation(row)

    def conversation(self, row: dict[str, Any]) -> Conversation:
        system = database.execute_sql(
            "SELECT system_prompt, head_id FROM sessions WHERE id = ?", (row["id"],)
        ).fetchone()
        return Conversation(
            row["uuid"],
            self.messages(system[1], row),
            title=self.masked(row["title"]),
            project=self.masked(row["project"]),
            model=row["model"],
            system_prompt=self.masked(system[0]),
            tags=[self.masked(tag) for tag in sorted((row["tags"] or "").split())],
            source=row["source"],
            started_at=parse_time(row["started_at"]) if row["started_at"] else None,
            last_activity_at=parse_time(row["last_activity_at"]),
        )

    def messages(self, head: int | None, row: dict[str, Any]) -> Iterator[Said]:
        """Yield the messages from the root to a head."""
        self.report.sessions += 1
        self.report.losses["messages on other branches"] += max(row["written_messages"] - row["messages"], 0)
        reading = Reading(head, row["id"])
        for message in reading:
            said = self.said(message)
            if said.is_hidden and not self.hidden:
                self.report.losses["hidden messages (--hidden writes them)"] += 1
            else:
                self.report.messages += 1
                yield said
        self.report.damaged += len(reading.problems)

    def said(self, message: Message) -> Said:
        tokens = {name: getattr(message, name) for name in TOKEN_FIELDS}
        metadata = message.metadata if isinstance(message.metadata, dict) else {}
        return Said(
            message.uuid,
            message.role,
            message.origin,
            message.status,
            self.masked(message.content),
            self.masked(message.reasoning),
            lambda: self.masked(writing.blocks(message)),
            is_hidden=bool(metadata.get("hidden")),
            model=self.model(message.model_id),
            cost_usd=usd(message.cost),
            latency_ms=message.latency_ms,
            ttft_ms=message.ttft_ms,
            finish_reason=message.finish_reason,
            error=self.masked(message.error),
            external_id=message.external_id,
            created_at=message.created_at,
            **tokens,
        )

    def model(self, row_id: int | None) -> str | None:
        if row_id is not None and row_id not in self.models:
            self.models[row_id] = LanguageModel.get_by_id(row_id).reference
        return None if row_id is None else self.models[row_id]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of llmsess' own format."""
        told = dumping.rows(self.chosen, self.masked, everything=self.everything)
        marks = snapshotrows.rows(dumping.in_order(set(self.chosen)), self.masked)
        for row in itertools.chain(told, marks):
            if row is dumping.DAMAGED:
                self.report.damaged += 1
                continue
            self.report.sessions += row["type"] == "session"
            self.report.messages += row["type"] == "message"
            yield row
