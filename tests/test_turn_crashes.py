"""A turn that is killed, ended or stopped at each of its points, and what the next command finds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmsess import crashpoints, db, maintenance, sessions
from llmsess.models import Call
from tests.conftest import Command
from tests.server import ChatServer

LONG = "".join(f"word{i} " for i in range(2000))
UNSETTLED = ("turn.written", "turn.delta", "turn.flushed", "turn.waiting", "turn.replied", "turn.settling")
HEARD = ("turn.delta", "turn.flushed", "turn.replied", "turn.settling", "turn.settled")  # points after the request left


def crash(path: Path, point: str, name: str, *args: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process that gets a signal at a point."""
    return subprocess.run(
        [sys.executable, "-m", "llmsess", *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        env=os.environ | {"LLMSESS_DB": str(path), "LLMSESS_CRASH": f"{point}:{name}"},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["KILL", "TERM", "INT"])
@pytest.mark.parametrize("point", crashpoints.POINTS["turn"])
def test_a_turn_keeps_its_promises_whatever_ends_it_wherever(
    path: Path, server: ChatServer, run: Command, point: str, name: str
) -> None:
    model = "busy-1-529" if point == "turn.waiting" else "long"
    ended = crash(path, point, name, "chat", "tell me", "-m", f"openai/{model}", "--title", "Talk")
    assert ended.returncode == (130 if name == "INT" else -getattr(signal, f"SIG{name}"))
    assert b"Traceback" not in ended.stderr
    sent = len(server.requests)
    assert sent == (point in HEARD or point == "turn.waiting")

    listed = run("session", "list")
    recovered = name == "KILL" and point in UNSETTLED
    assert ("was interrupted" in listed.err and "session retry" in listed.err) == recovered
    assert run("session", "list").err == ""

    db.connect(path)
    said = sessions.path("Talk")
    calls = list(Call.select())
    assert maintenance.check().findings == [], "integrity, foreign keys, the index, totals"
    db.database.close()
    assert len(calls) >= sent, "every bill has a row that was committed before"
    if point == "turn.writing":
        assert (said, calls) == ([], []), "nothing of the turn is there"
        return
    prompt, reply = said
    assert (prompt.content, prompt.status) == ("tell me", "complete")
    assert reply.owner is None
    assert LONG.startswith(reply.content)
    whole = point == "turn.settled" or (point in ("turn.replied", "turn.settling") and name != "KILL")
    assert (reply.status, calls[-1].outcome) == (
        ("complete", "ok") if whole else ("interrupted", _outcome(point, name))
    )
    assert (reply.content == LONG) == whole, "what was paid for and came is kept"
    if point in ("turn.flushed", "turn.replied", "turn.settling"):
        assert len(reply.content) > 1000
    if name != "KILL" and point == "turn.delta":
        assert reply.content.startswith(ended.stdout.decode().rstrip("\n"))

    again = run("chat", "-c", "go on", "-m", "echo/echo")
    assert (again.status, again.out) == (0, "go on\n")
    retried = run("session", "retry", "Talk", "-m", "openai/echo")
    assert (retried.status, retried.out) == (0, "go on\n")


def _outcome(point: str, name: str) -> str:
    if point == "turn.waiting":
        return "error"  # the refusal; no other attempt was made
    return "unknown" if name == "KILL" else "cancelled"


def test_a_reply_that_came_in_one_piece_is_kept_whatever_stops_it(path: Path, server: ChatServer) -> None:
    for point in ("turn.replied", "turn.settling"):
        ended = crash(path, point, "INT", "chat", "hi", "-m", "openai/small", "--no-stream", "--title", point)
        assert ended.returncode == 130
    db.connect(path)
    replies = [sessions.path(title)[-1] for title in ("turn.replied", "turn.settling")]
    assert [(reply.content, reply.status) for reply in replies] == [("Light scatters in the air.", "complete")] * 2
    db.database.close()


def test_two_chats_in_one_session_at_once_make_one_line(path: Path, tmp_path: Path, run: Command) -> None:
    script = tmp_path / "answers.yaml"
    script.write_text('[{match: prompt, content: "one two three four five", chunk_delay_s: 0.1}]')
    assert run("session", "create", "Shared", "-m", f"scripted/{script}").status == 0
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "llmsess", "chat", f"prompt {n}", "--session", "Shared"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"LLMSESS_DB": str(path)},
        )
        for n in range(4)
    ]  # fmt: skip
    for one in running:
        out, err = one.communicate(timeout=60)
        assert (one.returncode, out, err) == (0, b"one two three four five\n", b"")
    db.connect(path)
    messages = sessions.path("Shared")
    assert [message.position for message in messages] == list(range(1, 9))
    assert sorted(message.content for message in messages[::2]) == [f"prompt {n}" for n in range(4)]
    assert {message.content for message in messages[1::2]} == {"one two three four five"}
    assert maintenance.check().findings == []
    db.database.close()


def test_a_closed_standard_output_loses_no_reply(path: Path) -> None:
    command = f'"{sys.executable}" -m llmsess chat hello -m echo/echo >&-'
    done = subprocess.run(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"LLMSESS_DB": str(path)},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    db.connect(path)
    assert sessions.path("@last")[-1].content == "hello"
    db.database.close()


def test_a_full_standard_output_is_told_and_loses_no_reply(path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "llmsess", "chat", "hello", "-m", "echo/echo"], stdin=subprocess.DEVNULL, stdout=full,
            stderr=subprocess.PIPE, env=os.environ | {"LLMSESS_DB": str(path)},
        )  # fmt: skip
    assert done.returncode == 1
    assert b"the output cannot be written" in done.stderr and b"Traceback" not in done.stderr
    db.connect(path)
    assert sessions.path("@last")[-1].content in ("", "hello")
    db.database.close()
