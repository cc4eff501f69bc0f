"""Snapshots: what one costs beside a commit of one row, what 300 of them add to a file, the first screen of a long talk."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import data, raw
from benchmarks.importing import fresh
from benchmarks.timing import Measured, in_turn, report
from llmsess import salvaging, sessions, snapshots
from llmsess.cli import conversation
from llmsess.db import connect, database

TURNS = 300
LENGTHS = (10, 1_000, 10_000)
SCREEN = 40  # messages: more than a screen shows


def said(turns: int) -> list[tuple[str, str]]:
    """Return the messages of a conversation of so many turns."""
    found = itertools.chain.from_iterable(data.conversations(2 * turns // data.MESSAGES_PER_SESSION + 1))
    return [(message["role"], message["content"]) for message in itertools.islice(found, 2 * turns)]


def file_size(path: Path, *, marked: bool) -> int:
    """Return the bytes of a database of 300 turns, each committed, with or without a snapshot after each."""
    connect(path)
    session = sessions.create("300 turns")
    messages = said(TURNS)
    for turn in range(TURNS):
        sessions.extend(session, messages[2 * turn : 2 * turn + 2])
        if marked:
            snapshots.create(session)
    database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path.stat().st_size


def size(folder: Path, python: Path | None) -> bool:
    """300 turns with a snapshot after each, beside none, and beside a checkpointer that stores the state each time."""
    ours, without = (file_size(fresh(folder, name), marked=name == "marked.db") for name in ("marked.db", "plain.db"))
    text = sum(len(content.encode()) for _, content in said(TURNS))
    met = report("300 turns with a snapshot after each / without", Measured(ours / 1e6, without / 1e6), 1.2, unit="s")
    print(f"     (megabytes, not seconds; the text itself is {text / 1e6:.2f} MB: {ours / text:.1f} x)")
    if python is None:
        print("     langgraph's SQLite saver could not be installed: not compared")
        return met
    script = [str(python), str(Path(__file__).parent / "peer_langgraph.py"), str(fresh(folder, "langgraph.db"))]
    done = subprocess.run(script, input=json.dumps(said(TURNS)), check=True, capture_output=True, text=True)
    theirs = int(done.stdout)
    print(f"     langgraph's SQLite saver, the same 300 turns: {theirs / 1e6:.1f} MB: {theirs / text:.0f} x the text")
    return met


def cost(folder: Path) -> bool:
    """A snapshot beside the same row by hand, and beside a row of a table without indexes, at any length."""
    connect(fresh(folder, "mark.db"))
    by_hand = raw.connect(fresh_rows(folder))
    met = True
    for length in LENGTHS:
        session = sessions.create("Long")
        sessions.extend(session, said(length // 2))

        def one_row() -> None:
            by_hand.execute("BEGIN IMMEDIATE")
            by_hand.execute("INSERT INTO marks (uuid, said) VALUES (?, ?)", (os.urandom(16).hex(), raw.NOW))
            by_hand.execute("COMMIT")

        measured = in_turn(lambda session=session: snapshots.create(session), one_row, rounds=300)  # type: ignore[misc]
        met &= report(f"a snapshot at {length:,} messages / a commit of one row", measured, 2.0)
    by_hand.close()
    database.close()
    return met


def fresh_rows(folder: Path) -> Path:
    """Make a database with one table of one unique text and another, and return its path."""
    path = fresh(folder, "row.db")
    made = raw.connect(path)
    made.execute("PRAGMA page_size = 8192")
    made.execute("PRAGMA journal_mode = WAL")
    made.execute("CREATE TABLE marks (id INTEGER PRIMARY KEY, uuid TEXT UNIQUE, said TEXT)")
    made.close()
    return path


def first_screen(folder: Path) -> bool:
    """The first screen of 10,000 messages beside all of them."""
    connect(fresh(folder, "long.db"))
    session = sessions.create("Long")
    sessions.extend(session, said(max(LENGTHS) // 2))
    session = sessions.get(session)

    def shown(count: int | None) -> list[Any]:
        summary = sessions.summaries([session.id])[0]
        pieces = conversation.session_pieces(session, salvaging.of_session(session), summary)
        return list(itertools.islice(pieces, count))

    measured = in_turn(lambda: shown(SCREEN), lambda: shown(None), rounds=7)
    database.close()
    return report("first screen of 10,000 messages / all of them", measured, 0.1)
