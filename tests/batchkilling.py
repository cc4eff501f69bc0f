"""A batch whose processes are killed again and again: `python -m tests.batchkilling DATABASE SEED KILLS AT_ONCE`.

The workers are forks of this process, which has everything loaded, so that a life is short. Each is killed at a random
moment of it; the last is left to finish. Prints how many were killed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import openai  # noqa: F401  loaded before the forks

from llmsess import batches, db

LONGEST_S = 0.12  # of a worker's life


def start(path: str) -> int:
    """Run the job in a process of its own, and return its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        db.connect(path)
        batches.run("job")
        db.database.close()
    finally:
        os._exit(0)


def main(path: str, seed: int, kills: int, at_once: int) -> None:
    moments, killed = random.Random(seed), 0
    while killed < kills:
        pids = [start(path) for _ in range(at_once)]
        time.sleep(moments.uniform(0.01, LONGEST_S))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            killed += os.WIFSIGNALED(status)
    os.waitpid(start(path), 0)
    print(killed)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
