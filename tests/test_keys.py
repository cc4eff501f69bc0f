"""A key comes from the environment and goes to its server, and is found nowhere else: searched for in all that is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import Answer, ChatServer

KEYS = {
    "OPENAI_API_KEY": "sk-openai-4f1c9b7e2d6a8053",
    "ANTHROPIC_API_KEY": "sk-ant-77e1d2c3b4a59687",
    "LAB_KEY": "lab-0a1b2c3d4e5f6789",
}
COMMANDS = "import json, sys; from llmsess import cli; print([cli.run(args) for args in json.loads(sys.argv[1])])"
CRASH = """
import llmsess
from llmsess import chat, sessions
def broken(delta): raise RuntimeError("bug")
llmsess.connect()
chat.ask(sessions.create("t", model="openai/small"), "hi", on_delta=broken)
"""


def python(code: str, *args: str, **env: str) -> tuple[str, str]:
    """Run code in a process that has the keys, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        env=os.environ | KEYS | env,
    )  # fmt: skip
    return done.stdout, done.stderr


def found_in(folder: Path) -> list[str]:
    """Return the files below a folder that have a key in them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    return [str(path) for path in files if any(key.encode() in path.read_bytes() for key in KEYS.values())]


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["plain", "debug"])
def test_no_key_is_in_the_database_a_log_or_any_output(server: ChatServer, tmp_path: Path, debug: list[str]) -> None:
    repeated = b'{"error": {"message": "AUTH is no key", "type": "AUTH"}, "AUTH": ["AUTH"]}'
    server.answers["repeats"] = Answer("application/json", repeated, 401)
    server.answers["says"] = Answer("application/json", b'{"choices": [{"message": {"content": "AUTH"}}]}')
    server.answers["garbage"] = Answer("text/html", b"<AUTH", 500)
    commands = [["model", "add", "lab/small", "--base-url", server.url, "--api-key-env", "LAB_KEY"]]
    for provider in ("openai", "anthropic", "lab"):
        for model in (
            "small",
            "repeats",
            "garbage",
            "says",
            "not-json",
            "early",
            "reset",
            "moved",
            "404",
            "busy-1-429",
        ):
            commands.append(["chat", "hi", "-m", f"{provider}/{model}", "--json"])
            commands.append(["chat", "hi", "-m", f"{provider}/{model}", "--no-store"])
    commands += [["model", "list", "--remote"], ["model", "list", "--remote", "lab", "--json"]]
    commands += [["model", "show", "lab/small", "--json"], ["session", "list", "--json"], ["show", "@last", "--json"]]
    refused = [
        ["chat", "hi", "-m", "openai/small", "-o", "api_key", KEYS["LAB_KEY"]],
        ["chat", "hi", "-m", "openai/small", "-o", "extra_headers", json.dumps({"x": KEYS["LAB_KEY"]})],
        ["model", "add", "x/y", "--base-url", f"http://user:{KEYS['LAB_KEY']}@localhost/v1"],
        ["model", "add", "x/y", "--api-key-env", KEYS["LAB_KEY"]],
    ]
    asked = json.dumps([[*debug, *args] for args in commands + refused])
    logs = {"OPENAI_LOG": "debug", "ANTHROPIC_LOG": "debug"} if debug else {}
    out, err = python(COMMANDS, asked, **logs)
    statuses = json.loads(out.splitlines()[-1])
    assert statuses[:3] == [0, 0, 0] and statuses[-4:] == [2, 2, 2, 2]
    assert {request["_key"].removeprefix("Bearer ") for request in server.requests} == set(KEYS.values())
    assert "Traceback" not in err
    assert "[key] is no key" in out + err, "the server said it, and it was cut out"
    assert not [key for key in KEYS.values() if key in out + err]
    assert found_in(tmp_path) == []


def test_the_traceback_of_a_bug_has_no_key(server: ChatServer, tmp_path: Path) -> None:
    out, err = python(CRASH)
    assert "RuntimeError: bug" in err
    assert not [key for key in KEYS.values() if key in out + err]
    assert found_in(tmp_path) == []
