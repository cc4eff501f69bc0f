"""A terminal of our own: a command typed at a real pseudo-terminal, and what its screen shows."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

pexpect = pytest.importorskip("pexpect")  # not on Windows, which has no pseudo-terminals
pyte = pytest.importorskip("pyte")
ENTER, ALT_ENTER, CTRL_C, CTRL_D, UP = "\r", "\x1b\r", "\x03", "\x04", "\x1b[A"
PATIENCE_S = 15.0  # for a busy machine


class Terminal:
    """A terminal of 80 columns and 40 lines on which the command runs."""

    def __init__(self, path: Path, *args: str, size: tuple[int, int] = (40, 80), **env: str) -> None:
        self.screen = pyte.Screen(size[1], size[0])
        self.stream = pyte.ByteStream(self.screen)
        variables = os.environ | {"LLMSESS_DB": str(path), "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"} | env
        self.child = pexpect.spawn(
            sys.executable, ["-m", "llmsess", *args], dimensions=size, env=variables, timeout=PATIENCE_S
        )
        self.sent = b""

    def text(self) -> str:
        """Return what the screen shows now."""
        try:
            while True:
                piece = self.child.read_nonblocking(65536, timeout=0.02)
                self.sent += piece
                self.stream.feed(piece)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def shows(self, *words: str) -> str:
        """Wait until the screen shows all of these, and return it."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            shown = self.text()
            if all(word in shown for word in words):
                return shown
        raise AssertionError(f"{words} not in:\n{self.text()}")

    def type(self, *keys: str) -> None:
        for key in keys:
            self.child.send(key)

    def ended(self) -> int | None:
        """Wait for the end and return the exit status."""
        end = time.monotonic() + PATIENCE_S
        while self.child.isalive() and time.monotonic() < end:
            self.text()
        self.text()
        return self.child.exitstatus  # type: ignore[no-any-return]
