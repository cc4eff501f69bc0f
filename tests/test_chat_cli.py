"""What `llmsess chat` says beside the reply, and how its options go together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmsess import chat, db, maintenance, sessions
from tests.conftest import Command
from tests.server import Answer, ChatServer

CUT = b'{"choices": [{"message": {"content": "half a"}, "finish_reason": "length"}], "usage": {"prompt_tokens": 1}}'


def test_what_has_no_price_is_said_once(server: ChatServer, run: Command) -> None:
    first, second = (run("chat", "hi", "-m", "openai/unheard-of") for _ in range(2))
    assert "No price is known for openai/unheard-of" in first.err
    assert (second.out, second.err) == (first.out, "")
    assert run("chat", "hi", "-m", "echo/echo").err == "", "what is offline costs nothing"


def test_a_reply_that_was_cut_is_told(server: ChatServer, run: Command) -> None:
    server.answers["cut"] = Answer("application/json", CUT)
    done = run("chat", "hi", "-m", "openai/cut")
    assert done.out == "half a\n"
    assert "The reply was cut at the limit of tokens; -o max_tokens N sets it." in done.err


def test_reasoning_goes_beside_the_reply_in_a_pipe_too(server: ChatServer, run: Command) -> None:
    done = run("chat", "hi", "-m", "openai/reasoning")
    assert done.out == "Light scatters in the air.\n"
    assert done.err.startswith("Think first.\n") and "\x1b" not in done.err
    assert "Think first." not in run("chat", "hi", "-m", "openai/reasoning", "-R").err
    assert "Think first." not in run("chat", "hi", "-m", "openai/reasoning", "--json").err


@pytest.mark.parametrize(
    "args",
    [
        ["-c", "--session", "x"],
        ["-c", "--no-store"],
        ["-c", "--title", "t"],
        ["--schema", "a", "-x"],
        ["-p", "a", "b"],
        ["--context", "some"],
        ["-t", "no-such.yaml"],
        ["-s", "@no-such-file"],
        ["-o", "temperature", "hot"],
    ],
)
def test_options_that_do_not_go_together_are_a_usage_error(run: Command, args: list[str]) -> None:
    done = run("chat", "hi", "-m", "echo/echo", *args, "--json")
    assert (done.status, done.out) == (2, "")
    assert json.loads(done.err)["kind"] in ("invalid_input", "usage")
    assert run("list", "--json").out == "[]\n"


def test_without_a_terminal_there_is_no_conversation(run: Command) -> None:
    assert run("chat", "-m", "echo/echo").status == 2
    assert run("chat", "-m", "echo/echo", stdin=" \n").status == 2


def test_a_retry_takes_the_options_of_a_turn(server: ChatServer, run: Command) -> None:
    run("chat", "hi", "-m", "openai/small")
    done = run("session", "retry", "@last", "-o", "temperature", "0.3", "-s", "Be terse.", "--context", "last:0")
    assert done.out == "Light scatters in the air.\n"
    assert server.requests[1]["temperature"] == 0.3
    assert server.requests[1]["messages"][0]["content"] == "Be terse."


def test_undo_moves_the_head_and_loses_nothing(database: db.Database) -> None:
    session = sessions.create("t", model="echo/echo")
    for prompt in ("one", "two"):
        chat.ask(session, prompt)
    assert chat.undo(session).content == "two"
    assert [m.content for m in sessions.path(session)] == ["one", "one"]
    assert len(sessions.nodes(session)) == 4
    chat.undo(session)
    assert sessions.path(session) == []
    assert maintenance.check().findings == []


def test_an_upgrade_keeps_what_is_there(database: db.Database) -> None:
    session = sessions.create("kept", model="echo/echo")
    chat.ask(session, "one")
    assert [db.rollback() for _ in range(5)] == [
        ["0006_comparisons"],
        ["0005_batches"],
        ["0004_snapshots"],
        ["0003_imports"],
        ["0002_templates"],
    ]
    assert db.migrate() == ["0002_templates", "0003_imports", "0004_snapshots", "0005_batches", "0006_comparisons"]
    assert [m.content for m in sessions.path("kept")] == ["one", "one"]
    assert maintenance.check().findings == []


def test_what_could_not_be_sent_makes_no_session(server: ChatServer, run: Command, tmp_path: Path) -> None:
    run("chat", "real", "-m", "echo/echo", "--title", "Real")
    run("model", "add", "echo/small", "--context-window", "2")
    sound = tmp_path / "a.mp3"
    sound.write_bytes(b"ID3x")
    assert run("chat", "one two three", "-m", "echo/small").status == 2
    assert run("chat", "hear", "-a", str(sound), "-m", "anthropic/small").status == 2
    assert run("chat", "hi", "-m", "nowhere/none").status == 2
    assert [row["title"] for row in json.loads(run("list", "--json").out)] == ["Real"]


def test_a_failure_says_how_to_go_on(server: ChatServer, run: Command) -> None:
    for model in ("early", "500", "401"):
        done = run("chat", "hi", "-m", f"openai/{model}")
        assert done.status == 4
        assert "to send it again: llmsess session retry " in done.err
    assert json.loads(run("chat", "hi", "-m", "openai/500", "--json").err)["kind"] == "provider"
    assert "session retry" not in run("chat", "hi", "-m", "openai/500", "--no-store").err


def test_an_empty_reply_is_told(server: ChatServer, run: Command) -> None:
    said = {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}
    server.answers["empty"] = Answer("application/json", json.dumps(said).encode())
    assert "The reply is empty (content_filter)." in run("chat", "hi", "-m", "openai/empty").err
    assert "it asks for tools" in run("chat", "hi", "-m", "openai/tools").err


def test_a_retry_sends_as_before(server: ChatServer, run: Command) -> None:
    run("chat", "one", "-m", "openai/small")
    run("chat", "-c", "two", "-s", "Be terse.", "-o", "seed", "7", "--context", "last:0")
    run("session", "retry", "@last")
    run("session", "retry", "@last", "-o", "seed", "8")
    again, changed = server.requests[2:]
    assert [message["content"] for message in again["messages"]] == ["Be terse.", "two"]
    assert (again["seed"], changed["seed"]) == (7, 8)
