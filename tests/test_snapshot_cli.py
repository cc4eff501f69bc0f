"""`llmsess snapshot` as a person and a program see it; chat's /save and --autosave; long conversations shown as they come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmsess import db, salvaging, sessions, snapshots
from llmsess.models import Session
from tests.conftest import Command
from tests.terminals import CTRL_D, ENTER, PATIENCE_S

KEYS = ["id", "name", "type", "session_id", "session_title", "head", "messages", "keeps", "created_at"]


@pytest.fixture
def talk(run: Command) -> str:
    """A session of two turns, with a snapshot after the first."""
    run("chat", "one", "-m", "echo/echo", "-s", "be kind", "--title", "Talk")
    run("snapshot", "create", "Talk", "after one")
    run("chat", "-c", "two", "-m", "echo/big")
    return "Talk"


def test_create_shows_the_snapshot(run: Command, talk: str) -> None:
    made = json.loads(run("snapshot", "create", talk, "--name", "now", "--json").out)
    assert list(made) == KEYS
    assert (made["name"], made["type"], made["session_title"], made["messages"], made["keeps"]) == (
        "now", "manual", "Talk", 4, 0,
    )  # fmt: skip
    assert "checkpoint" in run("snapshot", "create", "@last", "--type", "checkpoint").out
    again = run("snapshot", "create", talk, "now")
    assert (again.status, again.err.count("\n")) == (1, 1)
    assert "llmsess snapshot delete" in again.err
    for args, status in (
        (["Talk", "a", "--name", "b"], 2),
        (["nobody"], 3),
        ([talk, "--type", "weekly"], 2),
        ([talk, " "], 2),
        ([], 2),
    ):
        assert run("snapshot", "create", *args).status == status


def test_list_show_and_diff(run: Command, talk: str) -> None:
    assert json.loads(run("snapshot", "list", "--json").out)[0]["name"] == "after one"
    assert run("snapshot", "list", talk).out.split("\t")[1] == "after one"
    assert json.loads(run("snapshot", "list", "--type", "auto_save", "--json").out) == []
    for _ in range(3):
        run("snapshot", "create", talk)
    page = run("snapshot", "list", "--limit", "3")
    assert page.out.count("\n") == 3 and "3 of 4; next: --cursor" in page.err
    cursor = page.err.split("--cursor ")[1].strip()
    assert run("snapshot", "list", "--cursor", cursor).out.split("\t")[1] == "after one"

    shown = json.loads(run("snapshot", "show", "after one", "--json").out)
    assert list(shown) == [*KEYS, "settings", "context_window"]
    assert [message["content"] for message in shown["messages"]] == ["one", "one"]
    assert shown["settings"] == {
        "model": "echo/echo", "system_prompt": "be kind", "temperature": None, "max_tokens": None, "parameters": None,
    }  # fmt: skip
    text = run("snapshot", "show", "after one").out
    assert text.startswith('Talk · snapshot "after one"\n') and "model echo/echo" in text and "be kind" in text
    assert run("snapshot", "show", "after one", "--format", "jsonl").out.count("\n") == 2

    found = json.loads(run("snapshot", "diff", "after one", "--json").out)
    assert list(found) == ["from", "to", "common", "changes", "settings"]
    assert (found["to"], found["common"]) == (None, 2)
    assert [(change["kind"], change["new"]["content"]) for change in found["changes"]] == [("added", "two")] * 2
    assert found["settings"] == {"model": {"old": "echo/echo", "new": "echo/big"}}
    assert "+ two" in run("snapshot", "diff", "after one").out
    assert "Nothing has changed" in run("snapshot", "diff", "@last").out
    prompt = json.loads(run("show", talk, "--json").out)["messages"][2]["id"]
    run("session", "edit", prompt, "two and a half")
    edited = run("snapshot", "diff", "@last").out
    assert "two{+ and a half+}" in edited


def test_the_text_of_a_diff_has_every_setting(run: Command, path: Path) -> None:
    prompt = "word " * 100
    run("session", "create", "Set", "-m", "echo/echo", "--temperature", "0.7", "-s", prompt + "old")
    run("snapshot", "create", "Set", "before")
    db.connect(path)
    Session.update(temperature=0.0, max_tokens=0, system_prompt=prompt + "new").execute()
    db.database.close()
    text = run("snapshot", "diff", "before").out
    assert "- 0.7\n+ 0.0\n" in text and "max tokens\n+ 0\n" in text and "[- old-]{+ new+}" in text


def test_restore_says_how_it_is_undone(run: Command, talk: str) -> None:
    branch = run("snapshot", "restore", "after one", "--json")
    made = json.loads(branch.out)
    assert (made["title"], made["messages"], made["before"]) == ("Talk (after one)", 2, None)
    assert f"llmsess session delete {made['id'][:8]}" in branch.err
    moved = run("snapshot", "restore", "after one", "--in-place")
    assert moved.status == 0 and "Talk" in moved.out
    undo = moved.err.split("To undo: llmsess ")[1].split()
    assert run(*undo).status == 0
    assert [row["content"] for row in json.loads(run("show", talk, "--json").out)["messages"]] == [
        "one",
        "one",
        "two",
        "two",
    ]
    assert json.loads(run("list", "--json").out)[0]["title"] == "Talk", "chat -c goes on with it"
    for args in ([], ["after one", "--session", talk], ["after one", "--in-place", "--title", "x"], ["@first"]):
        assert run("snapshot", "restore", *args).status in (2, 3)


def test_a_long_conversation_is_shown_without_reading_the_rest(run: Command, path: Path, process: Command) -> None:
    db.connect(path)
    session = sessions.create("Long")
    sessions.extend(session, [("user", f"message {i}") for i in range(10_000)])
    seen: list[Any] = []
    db.database.query_hooks.append(seen.append)
    reading = iter(salvaging.of_session(session))
    assert [next(reading).content for _ in range(40)] == [f"message {i}" for i in range(40)]
    db.database.query_hooks.remove(seen.append)
    assert len([event for event in seen if "json_each" in event.sql]) == 1, "some messages, of the first screens"
    assert len(sessions.path(session, last=3)) == 3
    db.database.close()
    done = run("show", "Long")
    assert (done.status, done.out.count("\nuser ")) == (0, 10_000)


def test_a_pager_that_is_left_ends_the_reading(path: Path, terminal: Callable[..., Any]) -> None:
    db.connect(path)
    sessions.extend(sessions.create("Long"), [("user", f"message {i}") for i in range(3_000)])
    db.database.close()
    shown = terminal("show", "Long", PAGER="head -5")
    assert shown.ended() == 0
    assert "message 0" in shown.text() and "Traceback" not in shown.text()


def test_save_and_autosave_in_the_chat(path: Path, terminal: Callable[..., Any]) -> None:
    shown = terminal("chat", "-m", "echo/echo", "--autosave", "0.3", "--keep", "1")
    shown.shows("Ctrl-D leaves")
    shown.type("/save early", ENTER)
    shown.shows("nothing was said yet")
    shown.type("one", ENTER)
    shown.shows("> one\none\n>")
    shown.type("/save first", ENTER)
    shown.shows('Saved as "first"; to come back: llmsess snapshot restore')
    shown.type("/save first", ENTER)
    shown.shows("has a snapshot")
    shown.type("two words", ENTER)
    shown.shows("> two words\ntwo words\n>")
    db.connect(path)
    end = time.monotonic() + PATIENCE_S
    while not (found := snapshots.find(snapshots.SnapshotFilter(type="auto_save")).rows) or found[0]["messages"] != 4:
        assert time.monotonic() < end
        time.sleep(0.05)
    shown.type(CTRL_D)
    assert shown.ended() == 0
    assert [row["type"] for row in snapshots.find()][:1] == ["auto_save"]
    assert len(snapshots.find(snapshots.SnapshotFilter(type="auto_save"))) == 1
    assert [message.content for message in snapshots.path("first")] == ["one", "one"]
    db.database.close()


def test_without_a_store_or_with_zero_nothing_is_saved(path: Path, terminal: Callable[..., Any]) -> None:
    for args in (["--no-store", "--autosave", "0.1"], ["--autosave", "0"]):
        shown = terminal("chat", "-m", "echo/echo", *args)
        shown.shows("Ctrl-D leaves")
        shown.type("one", ENTER)
        shown.shows("> one\none\n>")
        time.sleep(0.5)
        shown.type(CTRL_D)
        assert shown.ended() == 0
    db.connect(path)
    assert snapshots.count() == 0
    db.database.close()
    assert terminal("chat", "-m", "echo/echo", "--autosave", "-1").ended() == 2


def test_prune_and_delete_preview_and_ask(run: Command, talk: str) -> None:
    for _ in range(3):
        run("snapshot", "create", talk, "--type", "checkpoint")
    assert run("snapshot", "prune").status == 2
    assert run("snapshot", "prune", "--keep", "1").status == 2
    would = run("snapshot", "prune", "--keep", "1", "--dry-run")
    assert (would.status, would.err.count("checkpoint of ")) == (0, 2)
    assert "Would: Delete 2 snapshots of 1 session" in would.err
    assert "Deleted 2 snapshots" in run("snapshot", "prune", "--keep", "1", "--yes").err
    assert "No snapshot is to go" in run("snapshot", "prune", "--older-than", "1d", "--yes").err
    run("session", "delete", talk, "--dry-run")
    db.connect()
    sessions.set_head(talk, None)
    db.database.close()
    would = run("snapshot", "delete", "@last", "after one", "--dry-run")
    assert would.err.count("keeps 2 messages that nothing else reaches") == 1
    assert run("snapshot", "delete", "after one", "@last", "--yes").status == 0
    assert json.loads(run("snapshot", "list", "--json").out) == []
    assert "2 snapshots" not in run("session", "delete", talk, "--dry-run").err
