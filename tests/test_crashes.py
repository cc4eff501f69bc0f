"""A crash is tested by a crash: a process, a real signal, then the promise."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmsess import db, maintenance, sessions, transfer
from llmsess.models import Call, ImportRecord, Message
from tests.conftest import Command
from tests.server import ChatServer

LOST_S = 1.0  # of a reply: what a kill may lose at most
SLACK_S = 0.8  # for a busy machine to commit in


def spawn(path: Path, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "llmsess", *args], env=os.environ | {"LLMSESS_DB": str(path)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def killed(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture
def slow_script(tmp_path: Path) -> Path:
    """Answers a numbered word each 50 ms, for 10 s."""
    path = tmp_path / "slow.yaml"
    words = " ".join(f"word{i}" for i in range(200))
    path.write_text(json.dumps([{"content": words, "chunk_delay_s": 0.05}]))
    return path


@pytest.mark.parametrize("seconds", [0.3, 1.4, 2.7])
def test_kill_during_a_stream_loses_at_most_the_last_second(
    path: Path, slow_script: Path, process: Command, seconds: float
) -> None:
    chat = spawn(path, "chat", "tell me", "-m", f"scripted/{slow_script}")
    assert chat.stdout is not None
    shown: list[tuple[float, str]] = []
    first = chat.stdout.read(1).decode()
    began = time.monotonic()
    os.set_blocking(chat.stdout.fileno(), False)
    while time.monotonic() - began < seconds:
        piece = chat.stdout.read() or b""
        shown.append((time.monotonic(), piece.decode()))
        time.sleep(0.01)
    end = time.monotonic()
    killed(chat)
    promised = first + "".join(piece for moment, piece in shown if moment < end - LOST_S - SLACK_S)
    status = process("session", "list", "--json")
    assert status.status == 0
    db.connect(path)
    prompt, reply = sessions.path("@last")
    assert (prompt.content, prompt.status) == ("tell me", "complete")
    assert reply.status == "interrupted"
    assert len(reply.content) >= len(promised) - 1
    assert Call.get().outcome == "unknown"
    assert maintenance.check().findings == []
    db.database.close()
    assert "was interrupted" in status.err
    again = process("chat", "-c", "go on", "-m", "echo/echo")
    assert (again.status, again.out) == (0, "go on\n")


def test_ctrl_c_keeps_the_partial_reply_and_exits_130(path: Path, slow_script: Path) -> None:
    chat = spawn(path, "chat", "tell me", "-m", f"scripted/{slow_script}")
    assert chat.stdout is not None
    chat.stdout.read(30)
    chat.send_signal(signal.SIGINT)
    _, err = chat.communicate(timeout=10)
    assert chat.returncode == 130
    assert b"Traceback" not in err
    db.connect(path)
    reply = sessions.path("@last")[-1]
    assert reply.status == "interrupted" and reply.content.startswith("word0 word1")
    assert reply.owner is None
    db.database.close()


def test_a_reader_that_goes_away_loses_no_reply(path: Path, slow_script: Path) -> None:
    chat = spawn(path, "chat", "tell me", "-m", f"scripted/{slow_script}")
    assert chat.stdout is not None
    chat.stdout.read(12)
    chat.stdout.close()
    assert chat.wait(timeout=20) == 141
    assert chat.stderr is not None and b"Traceback" not in chat.stderr.read()
    chat.stderr.close()
    db.connect(path)
    reply = sessions.path("@last")[-1]
    assert reply.status == "interrupted" and reply.content.startswith("word0")
    db.database.close()


def test_kill_while_a_server_hangs(path: Path, server: ChatServer, process: Command) -> None:
    chat = spawn(path, "chat", "hello", "-m", "openai/hang")
    assert chat.stdout is not None
    assert chat.stdout.read(15) == b"Light scatters "
    time.sleep(LOST_S + SLACK_S)
    killed(chat)
    recovered = process("session", "recover", "--json")
    db.connect(path)
    assert sessions.path("@last")[-1].content == "Light scatters "
    db.database.close()
    assert "was interrupted" in recovered.err
    assert [reply["content"] for reply in json.loads(recovered.out)] == ["Light scatters "]


def test_kill_during_an_import_leaves_a_prefix_that_the_next_completes(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    with file.open("w") as out:
        for i in range(30_000):
            messages = [
                {"role": "user", "content": f"question {i} " + "word " * 20},
                {"role": "assistant", "content": f"answer {i}"},
            ]
            out.write(json.dumps({"messages": messages}) + "\n")
    importing = spawn(path, "import", "auto", str(file))
    deadline = time.monotonic() + 30
    other = db.driver.connect(str(path), timeout=30)
    while time.monotonic() < deadline and not other.execute("SELECT count(*) FROM import_records").fetchone()[0]:
        time.sleep(0.01)
    other.close()
    killed(importing)
    db.connect(path)
    stored = Message.select().count()
    assert 0 < stored < 60_000
    assert maintenance.check().findings == []
    report = transfer.run("auto", [file])
    assert report.totals()["imported"] + report.totals()["duplicate"] == 30_000
    assert (Message.select().count(), ImportRecord.select().count()) == (60_000, 30_000)
    assert maintenance.check().findings == []
    db.database.close()


WRITER = """
import sys, llmsess
from llmsess import sessions
llmsess.connect(sys.argv[1])
session = sessions.get("shared")
for i in range(100_000):
    message = sessions.append(session, "user", f"{sys.argv[2]} {i}")
    sys.stdout.write(message.uuid + "\\n")
    sys.stdout.flush()
"""


def test_every_acknowledged_message_survives_kills_of_two_writers(path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)
    db.connect(path)
    sessions.create("shared")
    db.database.close()
    acknowledged: list[str] = []
    for round_ in range(6):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(path), f"{round_}-{n}"], stdout=subprocess.PIPE, text=True
            )
            for n in (1, 2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            acknowledged.append(writer.stdout.readline().strip())
        time.sleep(rng.uniform(0.02, 0.3))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            out, _ = writer.communicate()
            assert writer.returncode == -signal.SIGKILL
            acknowledged += [line for line in out.split("\n")[:-1] if len(line) == 32]
    db.connect(path)
    stored = {row[0] for row in db.database.execute_sql("SELECT uuid FROM messages").fetchall()}
    assert set(acknowledged) <= stored, seed
    assert len(sessions.path("shared")) == len(stored), "one line, nothing beside it"
    assert maintenance.check().findings == []
    db.database.close()
