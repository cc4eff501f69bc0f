"""What the raw driver does: the same file, pragmas and statements, without llmsess around them."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmsess.db import PRAGMAS, driver

NOW = "2026-01-31T13:00:00.000000Z"


def connect(path: Path) -> Any:
    """Open a llmsess database with the driver alone, the same pragmas set."""
    connection = driver.connect(str(path), isolation_level=None, timeout=30)
    for name, value in PRAGMAS:
        connection.execute(f"PRAGMA {name} = {value}")
    return connection


class Turns:
    """A stored turn by hand: the statements that a turn of llmsess runs."""

    def __init__(self, path: Path) -> None:
        self.run = connect(path).execute
        self.run("BEGIN IMMEDIATE")
        self.model = self.run(
            "INSERT INTO models (uuid, provider, model_name, model_version, is_active, created_at) VALUES (?, 'raw', 'raw', '', 1, ?)",
            (os.urandom(16).hex(), NOW),
        ).lastrowid
        self.run("COMMIT")
        self.begin_session()

    def begin_session(self) -> None:
        self.session = self.run(
            "INSERT INTO sessions (uuid, session_type, status, next_sequence, total_messages, total_input_tokens, "
            "total_cached_input_tokens, total_cache_write_tokens, total_output_tokens, total_cost, unpriced_messages, "
            "started_at, last_activity_at) VALUES (?, 'single', 'active', 1, 0, 0, 0, 0, 0, 0, 0, ?, ?)",
            (os.urandom(16).hex(), NOW, NOW),
        ).lastrowid

    def turn(self, prompt: str) -> None:
        run = self.run
        run("BEGIN IMMEDIATE")
        head, sequence, position = run(
            "SELECT s.head_id, s.next_sequence, m.position FROM sessions s LEFT JOIN messages m ON m.id = s.head_id WHERE s.id = ?",
            (self.session,),
        ).fetchone()
        user = self.message(sequence, head, (position or 0) + 1, "user", "human", "complete", prompt, None, NOW)
        self.path(user)
        reply = self.message(
            sequence + 1, user, (position or 0) + 2, "assistant", "model", "pending", "", "host/1/1", None
        )
        call = run(
            "INSERT INTO calls (message_id, attempt, owner, request_sha256, started_at, outcome) VALUES (?, 1, ?, ?, ?, 'sent')",
            (reply, "host/1/1", "0" * 64, NOW),
        ).lastrowid
        run(
            "UPDATE sessions SET head_id = ?, next_sequence = ?, last_activity_at = max(last_activity_at, ?), status = 'active' WHERE id = ?",
            (reply, sequence + 2, NOW, self.session),
        )
        run("COMMIT")
        words = len(prompt.split())
        run("BEGIN IMMEDIATE")
        run(
            "UPDATE messages SET status = 'complete', owner = NULL, lease_expires_at = NULL, completed_at = ?, latency_ms = 1, "
            "ttft_ms = NULL, error = NULL, content = ?, reasoning = NULL, input_tokens = ?, cached_input_tokens = NULL, "
            "cache_write_tokens = NULL, output_tokens = ?, reasoning_tokens = NULL, usage = ?, cost = NULL, cost_source = NULL, "
            "finish_reason = 'stop', metadata = NULL WHERE id = ?",
            (NOW, prompt, words, words, json.dumps({"input_tokens": words, "output_tokens": words}), reply),
        )
        run("UPDATE calls SET outcome = 'ok', ended_at = ? WHERE id = ?", (NOW, call))
        run("COMMIT")
        run("SELECT * FROM messages WHERE id = ?", (reply,)).fetchone()

    def path(self, head: int) -> list[Any]:
        sql = """
            WITH RECURSIVE path (id, parent_id, position) AS (
                SELECT id, parent_id, position FROM messages WHERE id = ? UNION ALL
                SELECT m.id, m.parent_id, m.position FROM path p JOIN messages m ON m.id = p.parent_id AND m.position < p.position
            ) SELECT m.* FROM path p CROSS JOIN messages m ON m.id = p.id
        """
        rows: list[Any] = self.run(sql, (head,)).fetchall()
        return rows

    def message(self, sequence: int, parent: int | None, position: int, *values: Any) -> int:
        return int(
            self.run(
                "INSERT INTO messages (uuid, session_id, sequence_number, parent_id, position, role, origin, status, content, owner, "
                "completed_at, model_id, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (os.urandom(16).hex(), self.session, sequence, parent, position, *values, self.model, NOW),
            ).lastrowid
        )


Said = tuple[str, str, tuple[Any, ...]]  # role, text, further columns
MORE = ("external_id", "model_id", "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "usage",
        "cost", "cost_source", "parts", "reasoning", "metadata", "created_at", "completed_at")  # fmt: skip


def import_by_hand(path: Path, said: Iterable[tuple[list[Said], list[bytes]]], chunk: int = 5_000) -> None:
    """Conversations and their raw records by executemany, in chunks of 5,000 rows, under the same triggers."""
    connection = connect(path)
    session, message_id, line = (
        connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
        for table in ("sessions", "messages", "import_records")
    )
    connection.execute(
        "INSERT INTO import_sources (id, path, format, sha256, size_bytes, imported_at, complete) VALUES (1, 'x', 'x', '', 0, ?, 0)", (NOW,)
    )  # fmt: skip
    model = connection.execute(
        "INSERT INTO models (uuid, provider, model_name, model_version, is_active, created_at) VALUES (?, 'raw', 'raw', '', 1, ?)",
        (os.urandom(16).hex(), NOW),
    ).lastrowid
    sessions: list[tuple[Any, ...]] = []
    messages: list[tuple[Any, ...]] = []
    records: list[tuple[Any, ...]] = []
    columns = (
        f"id, uuid, session_id, sequence_number, parent_id, position, role, origin, status, content, {', '.join(MORE)}"
    )
    marks = ", ".join("?" * (10 + len(MORE)))

    def enter() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO sessions (id, uuid, session_type, status, next_sequence, total_messages, total_input_tokens, "
            "total_cached_input_tokens, total_cache_write_tokens, total_output_tokens, total_cost, unpriced_messages, "
            "last_activity_at) VALUES (?, ?, 'imported', 'active', 11, 0, 0, 0, 0, 0, 0, 0, ?)",
            sessions,
        )
        connection.executemany(f"INSERT INTO messages ({columns}) VALUES ({marks})", messages)
        connection.executemany(
            "INSERT INTO import_records (source_id, line, message_id, disposition, raw_record) VALUES (1, ?, ?, 'imported', ?)",
            records,
        )
        connection.execute("COMMIT")
        sessions.clear()
        messages.clear()
        records.clear()

    for conversation, lines in said:
        session += 1
        sessions.append((session, os.urandom(16).hex(), NOW))
        for number, (role, content, more) in enumerate(conversation, 1):
            message_id += 1
            parent = message_id - 1 if number > 1 else None
            origin, answers = ("human", None) if role == "user" else ("model", model)
            told = (more[0], answers, *more[1:]) if more else (None,) * len(MORE)
            messages.append(
                (
                    message_id,
                    os.urandom(16).hex(),
                    session,
                    number,
                    parent,
                    number,
                    role,
                    origin,
                    "complete",
                    content,
                    *told,
                )
            )
        for record in lines:
            line += 1
            records.append((line, message_id, zlib.compress(record, 1)))
        if len(messages) >= chunk:
            enter()
    enter()
    connection.close()
