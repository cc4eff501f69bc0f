"""Real files, real servers on loopback, real processes. A migrated database is made once and copied for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from llmsess import db
from tests.server import ChatServer
from tests.services import Services

FUZZ = int(os.environ.get("LLMSESS_FUZZ", "1"))  # how many times longer random tests look than in the suite
hypothesis.settings.register_profile("llmsess", max_examples=100 * FUZZ, deadline=None)
hypothesis.settings.load_profile("llmsess")
KEYS = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_AUTH_TOKEN",
    "LLMSESS_DB",
    "LLMSESS_MODEL",
    "PAGER",
    "NO_COLOR",
)


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    db.connect(path)
    db.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    db.database.close()
    return path


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLMSESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    """The path of a migrated database of this test's own."""
    return Path(shutil.copy(template, tmp_path / "test.db"))


@pytest.fixture
def database(path: Path) -> Iterator[db.Database]:
    """That database, connected."""
    yield db.connect(path)
    db.database.close()


@pytest.fixture
def run(path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run the command in this process on the test's database; nothing is on its standard input."""
    from llmsess import cli

    monkeypatch.setenv("LLMSESS_DB", str(path))

    def call(*args: str, stdin: str | bytes = "") -> Ran:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        reader, writer = os.pipe()
        os.write(writer, data[:60_000])
        os.close(writer)
        with os.fdopen(reader) as piped:
            monkeypatch.setattr(sys, "stdin", piped)
            capfd.readouterr()
            try:
                status = cli.run(list(args))
            finally:
                db.database.close()
        captured = capfd.readouterr()
        return Ran(status, captured.out, captured.err)

    yield call


@pytest.fixture
def process(path: Path) -> Command:
    """Run the command as a process of its own on the test's database."""

    def call(*args: str, stdin: str | bytes = "", timeout: float = 60, **env: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "llmsess", *args],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=timeout,
            env=os.environ | {"LLMSESS_DB": str(path)} | env,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


@pytest.fixture
def terminal(path: Path) -> Iterator[Callable[..., Any]]:
    """Run the command at a terminal of its own (`tests.terminals.Terminal`), on the test's database."""
    from tests.terminals import Terminal

    opened: list[Terminal] = []

    def start(*args: str, **more: Any) -> Terminal:
        opened.append(Terminal(path, *args, **more))
        return opened[-1]

    yield start
    for one in opened:
        one.child.close(force=True)


@pytest.fixture(scope="session")
def chat_server() -> Iterator[ChatServer]:
    """A server that speaks OpenAI's chat completions and fails as its model's name says."""
    with ChatServer() as started:
        yield started


@pytest.fixture
def server(chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> ChatServer:
    """That server as OpenAI's and Anthropic's, with keys, its record of requests empty."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.setenv("OPENAI_BASE_URL", chat_server.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0123456789abcdef")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", chat_server.url.removesuffix("/v1"))
    chat_server.on_request, chat_server.services = None, Services()
    chat_server.refusals.clear()
    chat_server.requests.clear()
    chat_server.answers.clear()
    return chat_server


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of other tools' sample files; tests that need it are skipped where it is absent."""
    folder = os.environ.get("LLMSESS_SAMPLES")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LLMSESS_SAMPLES names no folder")
    return Path(folder)
