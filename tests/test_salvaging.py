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
    of_messages = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'messages'"
    for (name,) in raw.execute(of_messages).fetchall() if " messages " in sql else ():
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
    assert report.damaged == 1


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
    assert run("snapshot", "restore", "--session", "Talk").status == 0
    assert run("db", "check").status == 5
    assert run("chat", "-c", "go on", "-m", "echo/other").status == 0, "its settings change all the same"
    assert run("snapshot", "delete", "after 1", "--yes").status == 0
    assert run("db", "check").status == 0
    for column, odd in (
        ("session_state", "[1]"),
        ("session_state", '{"model": 5}'),
        ("context_window", "5"),
        ("sequence_number", "x"),
    ):
        damaged(path, f"UPDATE session_snapshots SET {column} = '{odd}' WHERE name = 'after 2'")
        done = run("snapshot", "show", "after 2")
        assert (done.status, "Traceback" in done.err) == (5, False), (column, odd)
        assert "after 4" in run("snapshot", "restore", "--session", "Talk").err
        damaged(path, f"UPDATE session_snapshots SET {column} = {1 if column == 'sequence_number' else 'NULL'}")
    assert run("snapshot", "show", "after 2").status == 0


ODD_VALUES = {  # of a message in the middle: what is odd in it
    "position": ["'abc'", "x'00'", "2.5"],
    "metadata": ["'[1]'", "'5'", "x'7b7d'"],
    "parts": ["'5'", "'{}'", "'[[1,2,3]]'", "'[{}]'"],
    "content": ["x'ff00'", "5.5"],
    "created_at": ["x'00'", "'2026-01-01'", "5"],
    "cost": ["'much'"],
    "latency_ms": ["'long'", "1.5"],
    "output_tokens": ["'many'"],
    "uuid": ["x'00ff'"],
    "role": ["x'00'"],
    "sequence_number": ["'x'"],
    "usage": ["'{'"],
    "owner": ["x'ff'", "'garbage'"],
}


@pytest.mark.parametrize("column", ODD_VALUES)
def test_odd_values_are_told_and_the_rest_is_shown(talk: Session, path: Path, run: Command, column: str) -> None:
    commands = (
        ["show", "Talk", "--json"], ["show", "Talk"], ["snapshot", "show", "after 4", "--json"], ["snapshot", "show", "after 4"],
        ["snapshot", "list"], ["list"], ["snapshot", "create", "Talk"], ["snapshot", "diff", "after 2"], ["session", "tree", "Talk"],
        ["snapshot", "restore", "after 4"], ["snapshot", "replay", "after 2", "--yes"], ["session", "retry", "Talk"],
        ["export", "markdown", "Talk"], ["export", "llmsess"], ["snapshot", "prune", "--keep", "0", "--yes"], ["chat", "-c", "x"],
    )  # fmt: skip
    db.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    db.database.close()
    whole = path.read_bytes()
    for value in ODD_VALUES[column]:
        for log in ("-wal", "-shm"):
            Path(f"{path}{log}").unlink(missing_ok=True)
        path.write_bytes(whole)
        damaged(path, f"UPDATE messages SET {column} = {value} WHERE id = {FIFTH}")
        for command in commands:
            done = run(*command)
            assert done.status in (0, 5, 6) and "Traceback" not in done.err, (value, command, done.err)
            if command[:3] == ["show", "Talk", "--json"]:
                positions = [message["position"] for message in json.loads(done.out)["messages"]]
                assert (done.status, positions) in ((5, [1, 2, 3, 4, 6, 7, 8]), (0, [1, 2, 3, 4, 5, 6, 7, 8])), value
        assert run("db", "check").status == 5 or column in ("parts", "owner"), value


def test_a_circle_beside_the_path_ends(talk: Session, path: Path, run: Command) -> None:
    snapshots.restore("after 1", in_place=True)
    db.database.close()
    for sql in ("UPDATE messages SET parent_id = 8 WHERE id = 5", "UPDATE messages SET parent_id = id WHERE id = 6"):
        damaged(path, sql)
        for command in (
            ["list"],
            ["show", "after 4"],
            ["prune", "--keep", "0", "--dry-run"],
            ["delete", "after 4", "--dry-run"],
        ):
            assert run("snapshot", *command).status in (0, 5)


def test_a_snapshot_whose_head_is_gone_shows_only_what_was_before_it(talk: Session, path: Path, run: Command) -> None:
    db.database.close()
    damaged(path, "DELETE FROM messages WHERE position = 4")
    shown = run("snapshot", "show", "after 2", "--json")
    assert (shown.status, [m["position"] for m in json.loads(shown.out)["messages"]]) == (5, [1, 2, 3])


def test_damage_in_the_session_that_was_forked_hides_only_itself(talk: Session, path: Path, run: Command) -> None:
    fork = sessions.fork(talk, title="Fork")
    sessions.append(fork, "user", "own")
    db.database.close()
    damaged(path, f"DELETE FROM messages WHERE id = {FIFTH}")
    shown = run("show", "Fork", "--json")
    assert [message["position"] for message in json.loads(shown.out)["messages"]] == [1, 2, 3, 4, 6, 7, 8, 9]


def test_what_is_restored_is_on_the_sessions_own_path_if_anything_is(talk: Session, path: Path, run: Command) -> None:
    chat.ask(talk, "wrong")
    snapshots.restore("after 2", in_place=True)
    chat.ask(talk, "right")
    chat.ask(talk, "more")
    db.database.close()
    damaged(path, "DELETE FROM messages WHERE content = 'more' AND role = 'user'")
    assert '"after 2"' in run("snapshot", "restore", "--session", "Talk").err


def test_an_export_in_our_own_format_tells_of_damage(talk: Session, path: Path, run: Command, tmp_path: Path) -> None:
    db.database.close()
    whole = path.read_bytes()
    for sql, count in (
        ("DELETE FROM messages WHERE position = 8", 2), (f"DELETE FROM messages WHERE id = {FIFTH}", 1),
        ("UPDATE messages SET metadata = '{' WHERE position = 5", 1), ("UPDATE sessions SET parameters = '{'", 4),
        ("UPDATE session_snapshots SET session_state = '{'", 3),
    ):  # fmt: skip
        path.write_bytes(whole)
        damaged(path, sql)
        done = run("export", "llmsess", "-o", str(tmp_path / "out.jsonl"), "--yes", "--json")
        assert (done.status, json.loads(done.out)["damaged"]) == (6, count), sql


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
