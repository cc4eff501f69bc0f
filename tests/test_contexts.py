"""What of a conversation is sent, how long it is, and what happens where it is too long."""

from __future__ import annotations

import json

import pytest

from llmsess import catalog, chat, contexts, db, errors, sessions
from llmsess.models import Call, Message
from tests.conftest import Command
from tests.server import ChatServer


def test_last_n_sends_so_many_messages_before_the_prompt(server: ChatServer, database: db.Database) -> None:
    session = sessions.create("t", model="openai/small", system_prompt="Be terse.")
    for prompt in ("one", "two", "three"):
        chat.ask(session, prompt)
    chat.ask(session, "four", context="last:2")
    chat.ask(session, "five", context="last:1")
    chat.ask(session, "six", context="last:0")
    chat.ask(session, "seven", context="all")
    said = [[message["content"] for message in request["messages"]] for request in server.requests]
    reply = "Light scatters in the air."
    assert said[3] == ["Be terse.", "three", reply, "four"]
    assert said[4] == ["Be terse.", "five"], "a cut conversation does not begin with a reply"
    assert said[5] == ["Be terse.", "six"]
    assert len(said[6]) == 14
    assert sessions.path(session)[7].metadata["sent_with"] == {"context": "last:2"}


@pytest.mark.parametrize("choice", ["last", "last:", "last:-1", "first:3", "last:x", "", "last:9999999999"])
def test_no_choice_of_context_is_refused(database: db.Database, choice: str) -> None:
    with pytest.raises(errors.InvalidInput):
        chat.once("x", model="echo/echo", context=choice)


def test_a_conversation_longer_than_the_window_is_refused_before_sending(database: db.Database) -> None:
    catalog.add_model("echo/small", context_window=10)
    session = sessions.create("t", model="echo/small")
    chat.ask(session, "one two three")
    with pytest.raises(errors.ContextTooLong) as caught:
        chat.ask(session, "a b c d e f g")
    assert (caught.value.tokens, caught.value.window, caught.value.exact, caught.value.fitting) == (13, 10, True, 0)
    assert "--context last:0" in str(caught.value)
    assert Message.select().count() == 2 and Call.select().count() == 1, "nothing of it was written"
    assert chat.ask(session, "a b c d e f g", context="last:0").status == "complete"
    assert chat.ask(session, "a b c d e f g", context="all").status == "complete", "taken at its word"
    with pytest.raises(errors.ContextTooLong) as caught:
        chat.ask(session, "a b c d e f g h i j k")
    assert caught.value.fitting is None and "a shorter prompt" in str(caught.value)


def test_a_window_of_the_catalogue_counts(server: ChatServer, database: db.Database) -> None:
    session = sessions.create("t", model="openai/gpt-4")
    with pytest.raises(errors.ContextTooLong) as caught:
        chat.ask(session, "word " * 20_000)
    assert caught.value.window == 8192 and not caught.value.exact
    assert server.requests == []


def test_an_estimate_refuses_only_what_is_surely_too_long(server: ChatServer, database: db.Database) -> None:
    catalog.add_model("lab/tiny", base_url=server.url, context_window=1000)
    assert chat.once("x" * 4900, model="lab/tiny").status == "complete", "it may be 980 tokens"
    with pytest.raises(errors.ContextTooLong):
        chat.once("x" * 5100, model="lab/tiny")


def test_a_servers_own_no_is_told_as_such(server: ChatServer, database: db.Database) -> None:
    for provider in ("openai", "anthropic"):
        with pytest.raises(errors.ProviderError) as caught:
            chat.once("x", model=f"{provider}/context")
        assert caught.value.error_kind == "context_length"


def test_the_state_of_the_context_is_told(database: db.Database) -> None:
    catalog.add_model("echo/small", context_window=10)
    session = sessions.create("t", model="echo/small")
    assert chat.context(session) == chat.Context("echo/small", 0, 0, True, 10, None)
    chat.ask(session, "one two three")
    assert chat.context(session) == chat.Context("echo/small", 2, 6, True, 10, 3)
    assert chat.context(session, context="last:0") == chat.Context("echo/small", 0, 0, True, 10, 3)


def test_the_command_says_what_to_do(run: Command) -> None:
    assert run("model", "add", "echo/small", "--context-window", "4").status == 0
    assert run("chat", "a b", "-m", "echo/small").status == 0
    refused = run("chat", "-c", "c d", "--json")
    assert refused.status == 2
    assert json.loads(refused.err)["kind"] == "context_length"
    assert run("chat", "-c", "c d", "--context", "last:0").out == "c d\n"


def test_bytes_stand_for_tokens_where_nobody_counts() -> None:
    assert contexts.estimate("four", []) == 1
    assert contexts.estimate(None, []) == 0
