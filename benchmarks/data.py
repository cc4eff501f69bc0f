"""Seeded data: conversations of made-up words, some of which are in every third message."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from llmsess import transfer
from llmsess.db import connect, database

SEED = 20260131
MESSAGES_PER_SESSION = 10
WORDS_PER_MESSAGE = 40
COMMON = "lattice"  # in a third of all messages
RARE = "zyzzyva"  # in one of 5,000


def vocabulary(rng: random.Random) -> list[str]:
    """Return 20,000 pronounceable words, the same in every run."""
    syllables = [c + v for c in "bcdfghjklmnprstvz" for v in "aeiou"]
    return ["".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(20_000)]


def conversations(sessions: int, seed: int = SEED) -> Iterator[list[dict[str, str]]]:
    """Yield that many conversations of 10 messages in OpenAI's form."""
    rng = random.Random(seed)
    words = vocabulary(rng)
    weights = [1 / (rank + 10) for rank in range(len(words))]  # as in language: few words are most of the text
    pool = rng.choices(words, weights, k=500_000)
    for _ in range(sessions):
        messages = []
        for turn in range(MESSAGES_PER_SESSION):
            start = rng.randrange(len(pool) - WORDS_PER_MESSAGE)
            said = pool[start : start + WORDS_PER_MESSAGE]
            if rng.random() < 1 / 3:
                said[rng.randrange(WORDS_PER_MESSAGE)] = COMMON
            if rng.random() < 1 / 5000:
                said[0] = RARE
            messages.append({"role": "assistant" if turn % 2 else "user", "content": " ".join(said)})
        yield messages


def write_jsonl(path: Path, sessions: int, seed: int = SEED) -> Path:
    """Write conversations as JSON lines, once, and return the path."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            for messages in conversations(sessions, seed):
                file.write(json.dumps({"messages": messages}) + "\n")
        partial.rename(path)
    return path


def big_database(folder: Path, sessions: int) -> Path:
    """Make the database of sessions x 10 messages, once, with projects, models and times spread over it."""
    path = folder / f"big-{sessions}.db"
    if path.exists():
        return path
    partial = folder / "building.db"
    for leftover in folder.glob("building.db*"):
        leftover.unlink()
    connect(partial)
    transfer.run("openai-chat", [write_jsonl(folder / f"big-{sessions}.jsonl", sessions)], keep_raw=False)
    with database.atomic():
        run = database.execute_sql
        for i in range(20):
            run(
                "INSERT INTO projects (name, uuid, created_at) VALUES (?, lower(hex(randomblob(16))), '2026-01-01T00:00:00.000000Z')",
                (f"project {i}",),
            )
            run(
                "INSERT INTO models (uuid, provider, model_name, model_version, is_active, created_at) "
                "VALUES (lower(hex(randomblob(16))), 'bench', ?, '', 1, '2026-01-01T00:00:00.000000Z')",
                (f"model-{i}",),
            )
        run(
            "UPDATE sessions SET project_id = 1 + id % 20, model_id = 1 + id / 7 % 20, "
            "last_activity_at = strftime('%Y-%m-%dT%H:%M:%S.000000Z', 1700000000 + id * 600, 'unixepoch')"
        )
        run(
            "UPDATE messages SET created_at = strftime('%Y-%m-%dT%H:%M:%S.000000Z', 1700000000 + session_id * 600, 'unixepoch')"
        )
    database.execute_sql("INSERT INTO messages_fts (messages_fts) VALUES ('optimize')")
    database.execute_sql("ANALYZE")
    database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    partial.rename(path)
    return path
