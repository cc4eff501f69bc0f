"""What is sent again, how often, after how long, and what the ledger says of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmsess import chat, db, errors, retrying, sessions
from llmsess.errors import ProviderError
from llmsess.models import Call, Message
from llmsess.retrying import Wait
from tests.conftest import Command
from tests.server import Answer, ChatServer


def ledger() -> list[tuple[int, str, int | None]]:
    return [(call.attempt, call.outcome, call.http_status) for call in Call.select().order_by(Call.id)]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_refused_request_is_sent_again_and_each_attempt_is_in_the_ledger(
    server: ChatServer, database: db.Database, provider: str, status: int
) -> None:
    waits: list[Wait] = []
    reply = chat.ask(sessions.create("t", model=f"{provider}/busy-2-{status}"), "hi", on_wait=waits.append)
    assert (reply.content, reply.status) == ("Light scatters in the air.", "complete")
    assert ledger() == [(1, "error", status), (2, "error", status), (3, "ok", 200)]
    assert [(wait.attempt, wait.attempts, wait.seconds) for wait in waits] == [(1, 4, 0.01), (2, 4, 0.01)]
    assert len(server.requests) == 3
    assert {call.message_id for call in Call.select()} == {reply.id}


def test_after_three_retries_the_failure_is_kept(server: ChatServer, database: db.Database) -> None:
    session = sessions.create("t", model="openai/busy-9-529")
    with pytest.raises(ProviderError) as caught:
        chat.ask(session, "hi")
    assert caught.value.error_kind == "overloaded"
    assert ledger() == [(n, "error", 529) for n in (1, 2, 3, 4)]
    assert [(m.role, m.status) for m in sessions.path(session)] == [("user", "complete"), ("assistant", "failed")]


def test_retries_can_be_switched_off(server: ChatServer, database: db.Database) -> None:
    with pytest.raises(ProviderError):
        chat.ask(sessions.create("t", model="openai/busy-1-429"), "hi", retries=0)
    assert ledger() == [(1, "error", 429)]


@pytest.mark.parametrize("model", ["500", "401", "404", "early", "reset", "error-event", "not-json"])
def test_what_may_have_cost_something_or_will_not_change_is_sent_once(
    server: ChatServer, database: db.Database, model: str
) -> None:
    with pytest.raises(ProviderError):
        chat.ask(sessions.create("t", model=f"openai/{model}"), "hi")
    assert len(server.requests) == 1
    assert [attempt for attempt, _, _ in ledger()] == [1]


def test_a_refused_connection_is_tried_again(database: db.Database, server: ChatServer, run: Command) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    assert run("model", "add", "lab/small", "--base-url", address).status == 0
    began = time.monotonic()
    done = run("chat", "hi", "-m", "lab/small", "--retries", "1")
    assert done.status == 4
    assert "trying again in 0." in done.err and "attempt 2 of 2" in done.err
    assert time.monotonic() - began >= 0.25
    db.connect()
    assert [(attempt, outcome) for attempt, outcome, _ in ledger()] == [(1, "error"), (2, "error")]


def test_a_wait_of_more_than_a_minute_is_left_to_the_person(server: ChatServer, database: db.Database) -> None:
    server.answers["closed"] = Answer("application/json", b'{"error": {"message": "no"}}', 429, {"Retry-After": "61"})
    with pytest.raises(ProviderError) as caught:
        chat.ask(sessions.create("t", model="openai/closed"), "hi")
    assert caught.value.retry_after_s == 61
    assert len(server.requests) == 1


def test_pauses_double_up_to_eight_seconds() -> None:
    error = ProviderError("x", error_kind="overloaded", http_status=529)
    for attempt, (low, high) in {1: (0.25, 0.5), 2: (0.5, 1), 3: (1, 2), 9: (4, 8)}.items():
        pauses = [retrying.pause_s(error, attempt) or 0 for _ in range(50)]
        assert low <= min(pauses) < max(pauses) <= high


def test_without_a_session_it_is_sent_again_too(server: ChatServer, database: db.Database) -> None:
    assert chat.once("hi", model="openai/busy-1-429").content == "Light scatters in the air."
    assert Message.select().count() == 0


def test_the_wait_is_shown_and_ctrl_c_ends_it(path: Path, server: ChatServer) -> None:
    server.answers["later"] = Answer("application/json", b'{"error": {"message": "no"}}', 429, {"Retry-After": "50"})
    waiting = subprocess.Popen(
        [sys.executable, "-m", "llmsess", "chat", "hi", "-m", "openai/later"], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"LLMSESS_DB": str(path)},
    )  # fmt: skip
    assert waiting.stderr is not None
    told = waiting.stderr.readline().decode()
    assert "trying again in 50.0 s (attempt 2 of 4, Ctrl-C stops)" in told
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=10)
    assert waiting.returncode == 130 and b"Traceback" not in err
    db.connect(path)
    assert sessions.path("@last")[-1].status == "interrupted"
    assert ledger() == [(1, "error", 429)]
    db.database.close()


def test_a_conversation_goes_on_after_a_failure(server: ChatServer, database: db.Database) -> None:
    session = sessions.create("t", model="openai/401")
    with pytest.raises(errors.ProviderError):
        chat.ask(session, "first")
    assert chat.retry(session, model="openai/echo").content == "first"
    assert [m.content for m in sessions.path(session)] == ["first", "first"]
