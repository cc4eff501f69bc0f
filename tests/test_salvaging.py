"""Conversations that were damaged outside llmsess: told, shown as far as they are readable, restored from what is whole."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmsess import chat, db, errors, exporting, salvaging, sessions, snapshots
from llmsess.models import Session
from tests.conftest import Command

LARGE = "large " * 20_000


@pytest.fixture
def talk(database: db.Database) -> Session:
    """Eight messages; snapshots after the second, the fourth and the last."""
    session = sessions.create("Talk", model="echo/echo")
    for i in (1, 2, 3, 4):
        chat.ask(session, f"prompt {i}")
        if i != 3:
            snapshots.create(session, name=f"after {i}")
    return session


def damaged(path: Path, sql: str) -> None:
    """Change the file with another program, that knows nothing of foreign keys and triggers."""
    raw = sqlite3.connect(path)
    for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        raw.execute(f"DROP TRIGGER {name}")
    raw.execute(sql)
    raw.commit()
    raw.close()


FIFTH = "(SELECT id FROM messages WHERE position = 5)"
DAMAGES = {  # what was done: (its SQL, what is said of it, the messages that are left)
    "a message is gone": (f"DELETE FROM messages WHERE id = {FIFTH}", "position 5 is gone", [1, 2, 3, 4, 6, 7, 8]),
    "two are gone": ("DELETE FROM messages WHERE position IN (5, 6)", "position 6 is gone", [1, 2, 3, 4, 7, 8]),
    "the first is gone": ("DELETE FROM messages WHERE position = 1", "position 1 is gone", [2, 3, 4, 5, 6, 7, 8]),
    "the last is gone": ("DELETE FROM messages WHERE position = 8", "the last message is gone", [1, 2, 3, 4, 5, 6, 7]),
    "its JSON is none": (f"UPDATE messages SET metadata = '{{' WHERE id = {FIFTH}", "cannot be read", [1, 2, 3, 4, 6, 7, 8]),
    "its time is none": (f"UPDATE messages SET created_at = 'noon' WHERE id = {FIFTH}", "cannot be read", [1, 2, 3, 4, 6, 7, 8]),
    "its text is no UTF-8": (
        f"UPDATE messages SET content = CAST(x'ff00ff' AS TEXT) WHERE id = {FIFTH}", "at position 5", [1, 2, 3, 4, 6, 7, 8],
    ),
    "its large text is gone": (
        f"UPDATE messages SET content_sha256 = 'x' WHERE id = {FIFTH}", "content is gone", [1, 2, 3, 4, 6, 7, 8],
    ),
    "a circle": (f"UPDATE messages SET parent_id = (SELECT max(id) FROM messages) WHERE id = {FIFTH}", "position 4 is gone", [1, 2, 3, 4, 5, 6, 7, 8]),
    "no parent": (f"UPDATE messages SET parent_id = NULL WHERE id = {FIFTH}", "position 4 is gone", [1, 2, 3, 4, 5, 6, 7, 8]),
}  # fmt: skip
UNSENT = ("its JSON is none", "its time is none")  # what a model is not told


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_told_and_the_rest_is_shown_and_restored(
    talk: Session, path: Path, run: Command, name: str
) -> None:
    sql, told, left = DAMAGES[name]
    db.database.close()
    damaged(path, sql)

    shown = run("show", "Talk", "--json")
    assert shown.status == 5 and "Traceback" not in shown.err
    error = json.loads(shown.err.splitlines()[-1])
    assert error["kind"] == "damaged_conversation" and told in error["message"]
    assert [message["position"] for message in json.loads(shown.out)["messages"]] == left
    text = run("show", "Talk")
    assert text.status == 5 and text.out.count("\nassistant ") + text.out.count("\nuser ") == len(left)
    for command in (["chat", "-c", "go on"], ["snapshot", "diff", "after 1"], ["snapshot", "restore", "after 4"]):
        done = run(*command)
        is_sent = command[0] == "chat" and name in UNSENT
        assert (done.status, "Traceback" in done.err) == (0 if is_sent else 5, False), command
    assert run("session", "tree", "Talk").status in (0, 5)

    listed = json.loads(run("snapshot", "list", "Talk", "--json").out)
    assert [row["name"] for row in listed] == ["after 4", "after 2", "after 1"]
    part = run("snapshot", "show", "after 4", "--json")
    assert part.status == 5 and [message["position"] for message in json.loads(part.out)["messages"]] == left
    refused = run("snapshot", "restore", "after 4")
    assert "after 4" not in refused.out
    whole = run("snapshot", "restore", "--session", "Talk", "--in-place", "--json")
    if name == "the first is gone":
        assert whole.status == 3 and "no whole snapshot" in whole.err
        return
    assert whole.status == 0, whole.err
    again = run("show", "Talk", "--json")
    expected = ["prompt 1", "prompt 1", "prompt 2", "prompt 2"]
    assert (again.status, [message["content"] for message in json.loads(again.out)["messages"]]) == (0, expected)
    assert "llmsess snapshot restore" in refused.err
    assert run("chat", "-c", "on we go").out == "on we go\n"


def test_the_functions_are_strict_and_a_reading_goes_on(talk: Session, path: Path) -> None:
    db.database.close()
    damaged(path, f"DELETE FROM messages WHERE id = {FIFTH}")
    db.connect(path)
    calls: list[Callable[[], Any]] = [
        lambda: sessions.path(talk), lambda: snapshots.path("after 4"), lambda: chat.ask(talk, "x"),
        lambda: chat.context(talk), lambda: snapshots.restore("after 4"), lambda: snapshots.plan_replay("after 1"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(errors.DamagedConversation, match=r"position 5 is gone|damaged"):
            call()
    assert len(sessions.path(talk, last=2)) == 2, "the newest are there"
    reading = salvaging.of_session(talk)
    assert [message.position for message in reading] == [1, 2, 3, 4, 6, 7, 8]
    assert [message.position for message in reading] == [1, 2, 3, 4, 6, 7, 8], "and again"
    assert reading.problems == ["the message at position 5 is gone"]
    with pytest.raises(errors.DamagedConversation, match="position 5 is gone"):
        reading.check()


def test_an_export_has_what_is_readable_and_says_so(talk: Session, path: Path) -> None:
    db.database.close()
    damaged(path, f"DELETE FROM messages WHERE id = {FIFTH}")
    db.connect(path)
    out = io.StringIO()
    report = exporting.run("openai-chat", out, ["Talk"])
    assert len(json.loads(out.getvalue())["messages"]) == 7
    assert report.losses["damaged messages, which cannot be read"] == 1


def test_a_snapshot_of_a_damaged_end_is_refused(talk: Session, path: Path) -> None:
    db.database.close()
    damaged(path, "DELETE FROM messages WHERE position = 8")
    db.connect(path)
    with pytest.raises(errors.DamagedConversation, match="last message is gone"):
        snapshots.create(talk)
    restored = snapshots.restore("after 2", in_place=True)
    assert restored.before is None and len(sessions.path(talk)) == 4


def test_a_snapshot_whose_own_row_is_damaged_is_told(talk: Session, path: Path, run: Command) -> None:
    db.database.close()
    damaged(path, "UPDATE session_snapshots SET session_state = '[' WHERE name = 'after 1'")
    for command in (
        ["show", "after 1"],
        ["restore", "after 1"],
        ["diff", "after 1"],
        ["show", "@last"],
        ["replay", "after 1"],
    ):
        assert run("session", "tree", "Talk").status == 0
        done = run("snapshot", *command)
        assert (done.status, "Traceback" in done.err) == (0 if "@last" in command else 5, False), (command, done.err)
    assert len(json.loads(run("snapshot", "list", "--json").out)) == 3
    assert run("snapshot", "delete", "after 1", "--yes").status in (0, 5)
    damaged(path, "UPDATE session_snapshots SET session_state = '[1]' WHERE name = 'after 2'")
    assert run("snapshot", "show", "after 2").status == 5
    assert run("db", "check").status == 5


def test_a_file_of_which_pages_are_damaged_is_no_traceback(path: Path, run: Command) -> None:
    db.connect(path)
    session = sessions.create("Talk", model="echo/echo")
    for i in range(300):
        sessions.append(session, "user", f"message {i} " + "word " * 100)
    snapshots.create(session, name="all")
    db.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    db.database.close()
    data = bytearray(path.read_bytes())
    at = data.find(b"message 150 word")
    page = at // 8192 * 8192
    data[page : page + 8192] = b"\xa5" * 8192
    path.write_bytes(data)
    for command in (["show", "Talk"], ["snapshot", "show", "all"]):
        done = run(*command)
        assert done.status == 5 and "Traceback" not in done.err
        assert "message 299 word" in done.out and "message 150 word" not in done.out, "what can be read is shown"
    assert run("snapshot", "restore", "all").status == 5
