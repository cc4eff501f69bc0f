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

from llmsess import crashpoints, db, maintenance, sessions, snapshots, transfer
from llmsess.models import Call, ImportRecord, Message
from tests.conftest import FUZZ, Command
from tests.server import ChatServer
from tests.workers import Worker

LOST_S = 1.0  # of a reply: what a kill may lose at most
CONVERSATIONS = 2_000  # of an import: several chunks
SLACK_S = 0.8  # for a busy machine to commit in


def spawn(path: Path, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "llmsess", *args], env=os.environ | {"LLMSESS_DB": str(path)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def crashed(path: Path, point: str, *args: str, times: int = 1) -> int:
    """Run the command with SIGKILL at a point, and return how it ended."""
    status, said = Worker(path, *args, crash=f"{point}:KILL:{times}").ended()
    assert status in (0, -signal.SIGKILL), said
    return status


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
        for i in range(12_000):
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
    assert 0 < stored < 24_000
    assert maintenance.check().findings == []
    report = transfer.run("auto", [file])
    assert report.totals()["imported"] + report.totals()["duplicate"] == 12_000
    assert (Message.select().count(), ImportRecord.select().count()) == (24_000, 12_000)
    assert maintenance.check().findings == []
    db.database.close()


@pytest.mark.parametrize("point", crashpoints.POINTS["snapshot"])
def test_a_killed_snapshot_is_there_or_not(path: Path, process: Command, point: str) -> None:
    process("chat", "one", "-m", "echo/echo", "--title", "Talk")
    assert crashed(path, point, "snapshot", "create", "Talk", "mine") == -signal.SIGKILL
    listed = json.loads(process("snapshot", "list", "--json").out)
    assert [row["name"] for row in listed] == (["mine"] if point == "snapshot.written" else [])
    assert process("snapshot", "create", "Talk", "mine").status == (1 if listed else 0)
    assert process("db", "check").status == 0


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("point", crashpoints.POINTS["restore"])
def test_a_killed_restore_is_done_or_not(path: Path, process: Command, point: str, in_place: bool) -> None:
    process("chat", "one", "-m", "echo/echo", "--title", "Talk")
    process("snapshot", "create", "Talk", "mine")
    process("chat", "-c", "two", "-m", "echo/big")
    how = ["--in-place"] if in_place else []
    is_reached = point == "restore.written" or in_place != (point == "restore.branched")
    assert crashed(path, point, "snapshot", "restore", "mine", *how) == (-signal.SIGKILL if is_reached else 0)
    done = not is_reached or point == "restore.written"
    db.connect(path)
    talk = sessions.get("Talk")
    moved = in_place and done
    assert [message.content for message in sessions.path(talk)] == (
        ["one", "one"] if moved else ["one", "one", "two", "two"]
    )
    assert snapshots.settings_of(talk)["model"] == ("echo/echo" if moved else "echo/big")
    assert [row["type"] for row in snapshots.find()] == (["pre_restore", "manual"] if moved else ["manual"])
    assert sessions.count() == (2 if done and not in_place else 1)
    assert maintenance.check().findings == []
    restored = snapshots.restore("mine", in_place=in_place)
    assert [message.content for message in sessions.path(restored.session)] == ["one", "one"]
    db.database.close()


def test_a_killed_upgrade_leaves_a_whole_schema_and_a_copy(path: Path, tmp_path: Path, process: Command) -> None:
    db.connect(path)
    sessions.append(sessions.create("Talk"), "user", "hello")
    for _ in range(db.SCHEMA_VERSION - 1):
        db.rollback()
    db.database.close()
    old, copies = path.read_bytes(), tmp_path / "backups"
    done, ends = 0, set()
    for times in range(2, 1000, 2) if FUZZ == 1 else range(1, 1000):  # `make fuzz` stops at each
        for copy in copies.iterdir():
            copy.unlink()
        for log in ("-wal", "-shm"):
            Path(f"{path}{log}").unlink(missing_ok=True)
        path.write_bytes(old)
        if crashed(path, "migration.statement", "session", "list", times=times) == 0:
            break
        raw = db.driver.connect(str(path))
        (version,) = raw.execute("PRAGMA user_version").fetchone()
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        raw.close()
        assert [copy.suffix for copy in copies.iterdir()] != [] and version in range(1, db.SCHEMA_VERSION + 1)
        if times % 4 == 0 or version not in ends:
            assert Worker(path, "show", "Talk").ended()[0] == 0, times
            raw = db.driver.connect(str(path))
            assert raw.execute("PRAGMA user_version").fetchone() == (db.SCHEMA_VERSION,)
            assert raw.execute("SELECT content FROM messages").fetchall() == [("hello",)]
            raw.close()
        ends.add(version)
        done += 1
    assert done > 20 and ends == set(range(1, db.SCHEMA_VERSION + 1))
    assert process("db", "check").status == 0


@pytest.mark.parametrize("point", ["migration.locked", "migration.copied", "migration.written"])
def test_an_upgrade_that_is_killed_beside_its_statements_is_done_by_the_next(
    path: Path, process: Command, point: str
) -> None:
    process("chat", "one", "-m", "echo/echo", "--title", "Talk")
    process("db", "rollback", "--yes")
    assert crashed(path, point, "list") == -signal.SIGKILL
    assert "one" in process("show", "Talk").out
    assert json.loads(process("db", "info", "--json").out)["schema_version"] == db.SCHEMA_VERSION
    assert process("db", "check").status == 0


@pytest.mark.parametrize(
    ("format", "point", "times"),
    [
        ("openai-chat", "import.staged", 1), ("openai-chat", "import.staged", 2), ("openai-chat", "import.entered", 2),
        ("openai-chat", "import.written", 2), ("openai-chat", "import.linking", 1), ("llmsess", "import.entered", 2),
        ("llmsess", "import.linking", 1),
    ],
)  # fmt: skip
def test_an_import_that_is_killed_at_a_point_is_completed_by_the_next(
    path: Path, tmp_path: Path, process: Command, format: str, point: str, times: int
) -> None:
    lines = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}]}
        for i in range(CONVERSATIONS)
    ]
    file = tmp_path / "many.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if format == "llmsess":
        assert process("--db", str(tmp_path / "other.db"), "import", "auto", str(file)).status == 0
        assert (
            process("--db", str(tmp_path / "other.db"), "export", "llmsess", "-o", str(tmp_path / "own.jsonl")).status
            == 0
        )
        file = tmp_path / "own.jsonl"
    assert crashed(path, point, "import", "auto", str(file), times=times) == -signal.SIGKILL
    db.connect(path)
    assert maintenance.check().findings == []
    report = transfer.run("auto", [file])
    assert report.totals()["bad"] == 0 and not report.failed
    assert Message.select().count() == 2 * CONVERSATIONS and sessions.count() == CONVERSATIONS
    assert transfer.run("auto", [file]).totals()["imported"] == 0
    assert maintenance.check().findings == []
    db.database.close()


def test_two_hundred_kills_of_two_writers_lose_nothing_that_was_acknowledged(path: Path) -> None:
    seed, rounds = random.randrange(10**6), 100 * FUZZ
    print("seed", seed)
    db.connect(path)
    sessions.append(sessions.create("shared"), "user", "first")
    db.database.close()
    done = subprocess.run(
        [sys.executable, "-m", "tests.killing", str(path), str(seed), str(rounds)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = [line.split() for line in done.stdout.splitlines()]
    assert len(told) > rounds * 2
    db.connect(path)
    for table in ("messages", "sessions", "session_snapshots"):
        there = {row[0] for row in db.database.execute_sql(f"SELECT uuid FROM {table}").fetchall()}
        missing = {words[1] for words in told if words[0] == table} - there
        assert missing == set(), seed
    for _, uuid, head, length in [words for words in told if words[0] == "session_snapshots"]:
        found = snapshots.get(uuid)
        assert (str(found.head_id), str(len(snapshots.path(found)))) == (head, length), seed
    numbers = [row[0] for row in db.database.execute_sql(
        "SELECT sequence_number FROM messages m JOIN sessions s ON s.id = m.session_id AND s.title = 'shared' ORDER BY 1"
    ).fetchall()]  # fmt: skip
    assert numbers == list(range(1, len(numbers) + 1)), seed
    assert maintenance.check().findings == [], seed
    db.database.close()
