"""Histories that the tools themselves write: llm with llm-echo, Inspect AI with its mock model."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from llmsess import db, maintenance, sessions, transfer
from llmsess.models import Session

EVALUATION = '''
import sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, system_message, use_tools
from inspect_ai.tool import tool

@tool
def add():
    async def execute(x: int, y: int):
        """Add two numbers.

        Args:
            x: first
            y: second
        """
        return x + y

    return execute

async def counted(*args, **kwargs):  # its own counting fetches a table from the network
    return 7

answers = [ModelOutput.for_tool_call("mockllm/model", "add", {"x": 1, "y": 2}), ModelOutput.from_content("mockllm/model", "It is 3")] * 2
model = get_model("mockllm/model", custom_outputs=answers)
model.api.count_tokens = model.api.count_text_tokens = counted
task = Task(dataset=[Sample(input="What is 1+2?", target="3", id="a")], solver=[system_message("Be brief. " * 40), use_tools(add()), generate()], scorer=includes(), name="sums")
[log] = eval(task, model=model, log_dir=sys.argv[1], log_format=sys.argv[2], epochs=2, max_samples=1, display="none")
assert log.status == "success", log.error
'''


def llm(home: Path, *arguments: str) -> str:
    """Run llm's own command."""
    env = {"LLM_USER_PATH": str(home), "PATH": "/usr/bin:/bin", "HOME": str(home)}
    done = subprocess.run([sys.executable, "-m", "llm", *arguments], env=env, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)  # fmt: skip
    return done.stdout


def test_what_llm_writes(database: db.Database, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("A note.")
    (tmp_path / "dot.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    llm(tmp_path, "-m", "echo", "hello", "-s", "be kind")
    llm(tmp_path, "-c", "again")
    llm(tmp_path, "-m", "echo", "see", "-f", str(tmp_path / "note.txt"), "-a", str(tmp_path / "dot.png"))
    called = json.dumps({"tool_calls": [{"name": "llm_version", "arguments": {}}], "prompt": "which version?"})
    llm(tmp_path, "-m", "echo", called, "-T", "llm_version")
    logs = tmp_path / "logs.db"
    with contextlib.closing(sqlite3.connect(logs)) as connection:
        turns, given, written = connection.execute(
            "SELECT count(*), sum(input_tokens), sum(output_tokens) FROM turns"
        ).fetchone()
        threads, messages = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("threads", "messages")
        )
    before = logs.read_bytes()
    report = transfer.run("auto", [logs])
    assert (report.sources[0].sessions, report.sources[0].messages) == (threads, messages)
    assert sum(report.sources[0].records.values()) == turns == 5
    assert logs.read_bytes() == before and not list(tmp_path.glob("logs.db-*")), "it is opened for reading only"
    told = database.execute_sql("SELECT sum(input_tokens), sum(output_tokens) FROM messages").fetchone()
    assert told == (given, written)
    talk, seen, tool = (sessions.get(row) for row in Session.select().order_by(Session.started_at))
    assert [m.role for m in sessions.path(talk)] == ["system", "user", "assistant", "user", "assistant"]
    assert sessions.path(seen)[0].content == "A note.\nsee"
    assert [m.role for m in sessions.path(tool)] == ["user", "assistant", "tool", "assistant"]
    assert sessions.path(tool)[1].tool_text == "llm_version {}"
    assert transfer.run("auto", [logs]).totals()["imported"] == 0
    llm(tmp_path, "-m", "echo", "later")
    assert transfer.run("auto", [logs]).totals()["imported"] == 1
    assert maintenance.check().findings == []


@pytest.mark.parametrize("format_", ["eval", "json"])
def test_what_inspect_writes(database: db.Database, tmp_path: Path, format_: str) -> None:
    (tmp_path / "evaluation.py").write_text(EVALUATION)
    subprocess.run([sys.executable, "evaluation.py", "logs", format_], cwd=tmp_path, check=True, capture_output=True)
    [log] = (tmp_path / "logs").iterdir()
    report = transfer.run("auto", [log])
    assert not report.failed and report.skipped == []
    assert (report.totals()["sessions"], report.totals()["messages"]) == (2, 10)
    rows = [sessions.get(row) for row in Session.select()]
    for row in rows:
        path = sessions.path(row)
        assert [m.role for m in path] == ["system", "user", "assistant", "tool", "assistant"]
        assert path[0].content.startswith("Be brief. Be brief."), "a long text is an attachment of its log"
        assert (path[2].tool_text, path[3].tool_text, path[4].content) == ('add {"x":1,"y":2}', "3", "It is 3")
        assert path[4].model and path[4].model.reference == "mockllm/model"
        assert path[4].input_tokens
        assert row.project and row.project.name == "sums"
    assert {(row.metadata["epoch"], row.metadata["scores"]["includes"]) for row in rows} == {(1, "C"), (2, "C")}
    assert transfer.run("auto", [log]).totals()["imported"] == 0
    assert maintenance.check().findings == []
