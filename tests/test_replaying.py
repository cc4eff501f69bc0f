"""A replay sends the prompts of a conversation again, on a branch of its own, and tells before what that costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmsess import attachments, catalog, chat, errors, maintenance, sessions, snapshots
from llmsess.models import Call, Session
from tests.conftest import Command
from tests.server import ChatServer

pytestmark = pytest.mark.usefixtures("database")


def said(messages: Any) -> list[str]:
    return [message.content for message in messages]


@pytest.fixture
def talk(server: ChatServer) -> Session:
    session = sessions.create("Talk", model="openai/echo", system_prompt="be kind")
    for prompt in ("one", "two", "three"):
        chat.ask(session, prompt)
        snapshots.create(session, name=prompt)
    server.requests.clear()
    return session


def test_the_prompts_that_followed_are_sent_again_as_they_were(talk: Session, server: ChatServer) -> None:
    before = sessions.get(talk)
    done = snapshots.replay("one")
    assert [(turn.prompt.content, turn.old and turn.old.content, turn.new.content) for turn in done] == [
        ("two", "two", "two"), ("three", "three", "three"),
    ]  # fmt: skip
    branch = sessions.get(done[0].session)
    assert said(sessions.path(branch)) == ["one", "one", "two", "two", "three", "three"]
    assert (branch.title, branch.relation, branch.parent_session_id) == ("Talk (replay)", "restore", talk.id)
    assert [len(request["messages"]) for request in server.requests] == [4, 6], "with the system prompt and all before"
    assert server.requests[0]["messages"][0] == {"role": "system", "content": "be kind"}
    assert sessions.get(talk).head_id == before.head_id
    assert sessions.path(branch)[1].id == sessions.path(talk)[1].id, "what was before is shared"
    assert Call.select().count() == 5
    assert maintenance.check().findings == []


def test_with_nothing_after_it_the_whole_snapshot_is_sent_again(talk: Session, server: ChatServer) -> None:
    done = snapshots.replay("three", model="openai/small")
    assert [turn.new.content for turn in done] == ["Light scatters in the air."] * 3
    assert {request["model"] for request in server.requests} == {"small"}
    path = sessions.path(done[0].session)
    assert said(path)[::2] == ["one", "two", "three"]
    assert path[0].id != sessions.path(talk)[0].id
    assert said(snapshots.path("three")) == ["one", "one", "two", "two", "three", "three"]


def test_everything_is_sent_where_it_is_asked_for_or_the_session_went_another_way(talk: Session) -> None:
    assert [turn.prompt.content for turn in snapshots.plan_replay("one", everything=True).turns] == ["one"]
    sessions.edit(sessions.path(talk)[0], "other", session=talk)
    assert [turn.prompt.content for turn in snapshots.plan_replay("two").turns] == ["one", "two"]


def test_a_replay_goes_as_the_turns_went(talk: Session, server: ChatServer) -> None:
    made = snapshots.create(talk, name="odd")
    chat.ask(talk, "four", model="openai/small", system="other", parameters={"seed": 7}, context="last:2")
    chat.ask(talk, "five", model="openai/echo")
    server.requests.clear()
    snapshots.replay(made, parameters={"top_p": 0.5})
    first, second = server.requests
    assert (first["model"], first["seed"], first["top_p"]) == ("small", 7, 0.5)
    assert [message["content"] for message in first["messages"]] == ["other", "three", "three", "four"]
    assert (second["model"], second.get("seed"), second["top_p"]) == ("echo", None, 0.5)


def test_a_replay_has_the_title_it_is_given(talk: Session) -> None:
    assert snapshots.replay("two", title=" Again ")[0].session.title == "Again"


def test_attachments_instructions_and_unanswered_prompts_go_along(server: ChatServer, tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 20)
    session = sessions.create("Odd", model="openai/echo")
    made = snapshots.create(session)
    sessions.append(session, "system", "be brief")
    sessions.append(session, "user", "first, unanswered")
    chat.ask(session, "look", attachments=[picture])
    sessions.append(session, "tool", "tool result")
    sessions.append(session, "assistant", "the last word of an agent", model="openai/echo")
    sessions.append(session, "user", "never answered")
    server.requests.clear()
    done = snapshots.replay(made)
    assert [(turn.prompt.content, turn.old and turn.old.content) for turn in done] == [
        ("look", "the last word of an agent"), ("never answered", None),
    ]  # fmt: skip
    path = sessions.path(done[0].session)
    assert [(message.role, message.content) for message in path[:3]] == [
        ("system", "be brief"), ("user", "first, unanswered"), ("user", "look"),
    ]  # fmt: skip
    assert [found.size_bytes for found in attachments.of_message(path[2])] == [28]
    assert server.requests[0]["messages"][2]["content"][1]["type"] == "image_url"


def test_the_estimate_comes_before_anything_is_sent_or_written(talk: Session, server: ChatServer) -> None:
    catalog.add_model("openai/priced", cost_per_1k_input_tokens=10**6, cost_per_1k_output_tokens=10**9)
    sessions_before = sessions.count()
    plan = snapshots.plan_replay("one", model="openai/priced")
    assert (len(plan.turns), plan.models, plan.output_tokens, plan.unpriced) == (2, ["openai/priced"], 14, 0)
    assert plan.cost == plan.input_tokens * 1000 + 14 * 1_000_000
    assert (server.requests, sessions.count()) == ([], sessions_before)
    assert snapshots.plan_replay("one").unpriced == 2


def test_an_empty_conversation_has_nothing_to_send(talk: Session) -> None:
    empty = snapshots.create(sessions.create("Empty", model="echo/echo"))
    with pytest.raises(errors.InvalidInput, match="no prompt"):
        snapshots.plan_replay(empty)


def test_what_cannot_be_sent_is_told_before(talk: Session, server: ChatServer) -> None:
    for options in ({"model": "nobody/knows"}, {"parameters": {"temperature": "hot"}}, {"context": "some"}):
        with pytest.raises(errors.LlmsessError):
            snapshots.plan_replay("one", **options)
    assert server.requests == []


def test_a_refusal_keeps_what_was_answered_on_the_branch(talk: Session, server: ChatServer) -> None:
    chat.ask(talk, "four")
    plan = snapshots.plan_replay("two", retries=0)
    plan.turns[1].options["model"] = "openai/500"
    branches: list[Session] = []
    with pytest.raises(errors.ProviderError):
        list(snapshots.stream_replay(plan, on_branch=branches.append))
    path = sessions.path(branches[0])
    assert [(message.content, message.status) for message in path[4:]] == [
        ("three", "complete"), ("three", "complete"), ("four", "complete"), ("", "failed"),
    ]  # fmt: skip


def test_the_command_shows_old_and_new_and_asks_first(run: Command, talk: Session, server: ChatServer) -> None:
    asked = run("snapshot", "replay", "one", "-m", "openai/small")
    assert (asked.status, asked.out, server.requests) == (2, "", [])
    assert "2 prompts to openai/small: about" in asked.err and "give --yes" in asked.err
    assert run("snapshot", "replay", "one", "--dry-run").status == 0
    assert server.requests == []
    done = run("snapshot", "replay", "one", "-m", "openai/small", "--yes")
    assert done.status == 0
    assert done.out.count("new: openai/small") == done.out.count("old: openai/echo") == 2
    assert "Light scatters in the air." in done.out
    again = json.loads(run("snapshot", "replay", "one", "--all", "--yes", "--json").out)
    assert [(turn["prompt"], turn["old"]["content"], turn["new"]["content"]) for turn in again["turns"]] == [
        ("one", "one", "one")
    ]
    assert sessions_titles(run) == ["Talk (replay)", "Talk (replay)", "Talk"]
    failed = run("snapshot", "replay", "one", "-m", "openai/401", "--yes")
    assert failed.status == 4 and "On a new branch" in failed.err and "0 of 2 answers" in failed.err
    part = run("snapshot", "replay", "one", "-m", "openai/busy-9-429", "--retries", "0", "--yes", "--json")
    assert (part.status, json.loads(part.out)["turns"]) == (4, [])
    plan = json.loads(run("snapshot", "replay", "one", "--dry-run", "--json").out)
    assert (plan["prompts"], plan["models"], plan["unpriced_messages"]) == (["two", "three"], ["openai/echo"], 2)
    rows = run("snapshot", "replay", "one", "--yes", "--format", "jsonl").out.splitlines()
    assert [json.loads(row) for row in rows] == [
        {"prompt": word, "old": word, "new": word} for word in ("two", "three")
    ]


def sessions_titles(run: Command) -> list[str]:
    return [row["title"] for row in json.loads(run("list", "--json").out)]
