"""The command as a process of its own, forked from one that has everything loaded, so that starting it takes no time.

It is killed, signalled and waited for as any other; only the second it would take to load the SDKs is saved.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.preloaded"])
PATIENCE_S = 60.0


class Worker:
    """A command that runs on a database, perhaps to be killed at a point."""

    def __init__(self, path: Path, *command: str, crash: str = "") -> None:
        handle, self.log = tempfile.mkstemp(prefix="llmsess-test-")
        os.close(handle)
        env = os.environ | {"LLMSESS_DB": str(path)} | ({"LLMSESS_CRASH": crash} if crash else {})
        self.process = CONTEXT.Process(target=_run, args=(dict(env), command or ("batch", "run", "job"), self.log))
        self.process.start()

    def kill(self) -> None:
        self.process.kill()

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid or 0, number)

    def ended(self) -> tuple[int, str]:
        """Wait for the end and return the status (of a signal: less than 0) and what was said on standard error."""
        self.process.join(PATIENCE_S)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"it has not ended: {Path(self.log).read_text()}")
        said = Path(self.log).read_text()
        os.unlink(self.log)
        return self.process.exitcode, said


def _run(env: dict[str, str], command: tuple[str, ...], log: str) -> None:
    """Be the command: its environment, its standard streams, its signals."""
    from llmsess import cli

    os.environ.clear()
    os.environ.update(env)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for descriptor, name, mode in ((0, os.devnull, os.O_RDONLY), (1, os.devnull, os.O_WRONLY), (2, log, os.O_WRONLY)):
        os.dup2(os.open(name, mode), descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(n, mode, closefd=False) for n, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    cli.main(list(command))
