"""`llmsess snapshot` as a person and a program see it; chat's /save and --autosave; long conversations shown as they come."""

from __future__ import annotations

import json

import pytest

from llmsess import db, sessions
from tests.conftest import Command

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
    for args, status in ((["nobody"], 3), ([talk, "--type", "weekly"], 2), ([talk, " "], 2), ([], 2)):
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
