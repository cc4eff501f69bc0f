"""Two writers that are killed again and again: `python -m tests.killing DATABASE SEED ROUNDS`.

The writers append, fork, edit, snapshot and restore in one shared session, and tell through a pipe what was committed:
the table and the uuid, and of a snapshot what it shows. Each round both are killed at a random moment. At the end all
that was acknowledged is printed, a line each.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from llmsess import db, sessions, snapshots

LONGEST_S = 0.04  # of a writer's life, after its first word


def write(pipe: int, rng: random.Random) -> None:
    """Write until killed; each acknowledgement is one write of less than the pipe's atomic size."""

    def tell(*words: str) -> None:
        os.write(pipe, (" ".join(words) + "\n").encode())

    session = sessions.get("shared")
    number = 0
    while True:
        number += 1
        choice = rng.random()
        if choice < 0.6:
            tell("messages", sessions.append(session, "user", f"{os.getpid()} {number}").uuid)
        elif choice < 0.7:
            messages = sessions.path(session, last=3)
            if messages:
                tell("messages", sessions.edit(messages[0], f"{os.getpid()} {number} edited", session=session).uuid)
        elif choice < 0.9:
            made = snapshots.create(session)
            tell("session_snapshots", made.uuid, str(made.head_id), str(len(snapshots.path(made))))
        elif choice < 0.95 and snapshots.count():
            before = snapshots.restore("@last", in_place=True).before
            if before is not None:
                tell("session_snapshots", before.uuid, str(before.head_id), str(len(snapshots.path(before))))
        else:
            tell("sessions", sessions.fork(session).uuid)


def writer(path: str, seed: int) -> tuple[int, int]:
    """Start a writer; return its process id and the pipe that it tells its acknowledgements through."""
    reader, pipe = os.pipe()
    child = os.fork()
    if child:
        os.close(pipe)
        return child, reader
    try:
        os.close(reader)
        db.connect(path)
        write(pipe, random.Random(seed))
    finally:
        os._exit(1)  # it was not killed: the parent says so


def main(path: str, seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    for _ in range(rounds):
        running = [writer(path, rng.randrange(10**9)) for _ in range(2)]
        told = [os.read(pipe, 65536) for _, pipe in running]
        time.sleep(rng.uniform(0, LONGEST_S))
        for i, (child, pipe) in enumerate(running):
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
            while piece := os.read(pipe, 65536):
                told[i] += piece
            os.close(pipe)
        sys.stdout.write("".join(piece.decode() for piece in told))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
