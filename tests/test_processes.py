"""Any number of processes on one file: one schema, one line of messages, no lock errors."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import llmsess
from llmsess import db, maintenance, sessions
from tests.conftest import Command

APPEND = """
import sys, time
start = float(sys.argv[3])
time.sleep(max(0, start - time.time()))
import llmsess
from llmsess import sessions
llmsess.connect(sys.argv[1])
from llmsess.db import database
with database.atomic():
    if not sessions.count():
        sessions.create("shared")
session = sessions.get("shared")
for i in range(200):
    sessions.append(session, "user", f"{sys.argv[2]}-{i}")
"""


def together(code: str, path: Path, count: int, *, wait_s: float = 1.0) -> list[tuple[int, str]]:
    start = str(time.time() + wait_s)
    return ended([[sys.executable, "-c", code, str(path), str(n), start] for n in range(count)])


def ended(commands: list[list[str]]) -> list[tuple[int, str]]:
    """Run the commands beside each other; return status and standard error of each."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    running = [subprocess.Popen(command, text=True, **pipes) for command in commands]
    return [(one.returncode, err) for one in running for _, err in [one.communicate()]]


def test_eight_processes_make_one_file_and_one_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "shared.db"
    assert together(APPEND, path, 8) == [(0, "")] * 8
    llmsess.connect(path)
    assert db.database.execute_sql("SELECT name FROM schema_migrations").fetchall() == [
        ("0001_initial",),
        ("0002_templates",),
        ("0003_imports",),
        ("0004_snapshots",),
        ("0005_batches",),
        ("0006_comparisons",),
    ]
    messages = sessions.path("shared")
    assert len(messages) == 1600
    assert [message.position for message in messages] == list(range(1, 1601))
    assert [message.sequence_number for message in messages] == list(range(1, 1601))
    for n in range(8):
        mine = [message.content for message in messages if message.content.startswith(f"{n}-")]
        assert mine == [f"{n}-{i}" for i in range(200)]
    assert maintenance.check().findings == []
    db.database.close()


FORK = """
import os, sys
import llmsess
from llmsess import chat, sessions
from llmsess.db import database
llmsess.connect(sys.argv[1])
session = sessions.create("forked", model="echo/echo")
mine = database.driver_connection()
child = os.fork()
assert child == 0 or database.driver_connection() is mine
for i in range(30):
    chat.ask(session, f"{child == 0} {i}")
if child == 0:
    assert database.driver_connection() is not mine
    os._exit(0)
_, status = os.waitpid(child, 0)
sys.exit(status)
"""


def test_a_forked_child_has_a_connection_of_its_own(path: Path) -> None:
    assert ended([[sys.executable, "-c", FORK, str(path)]]) == [(0, "")]
    llmsess.connect(path)
    assert len(sessions.path("forked")) == 120
    assert maintenance.check().findings == []
    db.database.close()


def test_threads_share_a_session(path: Path) -> None:
    llmsess.connect(path)
    session = sessions.create("threads")

    def write(n: int) -> None:
        for i in range(40):
            sessions.append(session, "user", f"{n} {i}")
        db.database.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert [message.position for message in sessions.path(session)] == list(range(1, 241))
    db.database.close()


OPEN = """
import sys, time
import llmsess, llmsess.db
time.sleep(max(0, float(sys.argv[3]) - time.time()))
llmsess.connect(sys.argv[1])
"""


def test_the_first_opening_may_be_a_race(tmp_path: Path) -> None:
    for round_ in range(4):
        path = tmp_path / f"{round_}.db"
        assert together(OPEN, path, 6, wait_s=0.5) == [(0, "")] * 6
        llmsess.connect(path)
        assert db.database.pragma("journal_mode") == "wal"
        db.database.close()


def test_two_imports_of_one_file_at_once_store_it_once(path: Path, tmp_path: Path) -> None:
    import json

    file = tmp_path / "x.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}]}
        for i in range(3000)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "llmsess", "--db", str(path), "import", "auto", str(file)]
    assert ended([command] * 3) == [(0, "")] * 3
    llmsess.connect(path)
    assert db.database.execute_sql("SELECT count(*) FROM messages").fetchone() == (6000,)
    assert maintenance.check().findings == []
    db.database.close()


@pytest.mark.parametrize("commands", [6])
def test_commands_beside_each_other(path: Path, commands: int, process: Command) -> None:
    chat = [sys.executable, "-m", "llmsess", "--db", str(path), "chat", "hello", "-m", "echo/echo"]
    running = [
        subprocess.Popen(chat, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(commands)
    ]
    assert [one.communicate() for one in running] == [("hello\n", "")] * commands
    assert process("list").out.count("\n") == commands
