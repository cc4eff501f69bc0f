"""Named points at which a test can end the process, to see what a crash there leaves. Inert otherwise.

`LLMSESS_CRASH=turn.sent:KILL` sends the process SIGKILL when it first comes to the point `turn.sent`;
`turn.flushed:TERM:3` sends SIGTERM at the third time. Every area lists its points in `POINTS`.
"""

from __future__ import annotations

import functools
import os

POINTS = {
    "turn": (
        "turn.writing",  # inside the transaction that writes the prompt and the pending reply
        "turn.written",  # it is committed, nothing is sent
        "turn.delta",  # a piece has come, and is not recorded yet
        "turn.flushed",  # a partial reply is committed
        "turn.waiting",  # a refusal is recorded, the next attempt is to come
        "turn.replied",  # the reply is whole, and not stored
        "turn.settling",  # inside the transaction that stores it
        "turn.settled",  # it is committed
    ),
    "snapshot": (
        "snapshot.writing",  # inside the transaction that makes one
        "snapshot.written",  # it is committed
    ),
    "batch": (
        "batch.staged",  # the rows of the input are checked, nothing is entered
        "batch.entering",  # inside the transaction that enters them
        "batch.claimed",  # items are claimed, nothing of them is sent
        "batch.intending",  # inside the transaction that writes an attempt ahead
        "batch.intended",  # it is committed, nothing is sent
        "batch.replied",  # an answer has come, and is not stored
        "batch.settling",  # inside the transaction that stores it
        "batch.settled",  # it is committed
        "batch.refused",  # inside the transaction that stores a refusal, before the pause
        "batch.renewed",  # leases are renewed
        "batch.recovering",  # inside the transaction that frees what a lost process held
        "batch.exporting",  # half of an export is written
        "batch.importing",  # inside the transaction that stores results of a file
        "batch.sharded",  # requests for a batch service are written down, and not sent
        "batch.uploaded",  # their file is at the service
        "batch.submitted",  # the service has the batch, which is not recorded
        "batch.fetching",  # between two groups of results
    ),
    "comparison": (
        "comparison.entered",  # variants, cases and cells are committed, the batch is not made
        "comparison.scheduled",  # the batch is made, the cells do not know their items
        "comparison.asked",  # all is answered, nothing is scored
        "comparison.scoring",  # inside the transaction that stores scores
        "comparison.scored",  # it is committed
        "comparison.voting",  # inside the transaction that stores judgements
    ),
    "restore": (
        "restore.saved",  # inside the transaction, after the snapshot of where the session was
        "restore.moved",  # inside it, the head and the settings are the old ones again
        "restore.branched",  # inside the transaction that makes a new branch
        "restore.written",  # either is committed
    ),
    "migration": (
        "migration.locked",  # the lock beside the file is held
        "migration.copied",  # the copy of the database is whole
        "migration.statement",  # a statement has changed the schema; as many times as there are statements
        "migration.written",  # the new schema is committed
    ),
    "import": (
        "import.staged",  # inside the transaction that enters a chunk, before its messages
        "import.entered",  # inside it, after them
        "import.written",  # it is committed
        "import.linking",  # inside the transaction that settles what waited
    ),
}


@functools.cache
def _plan() -> tuple[str, int, int] | None:
    """Return the point, the signal and which passing of it the environment names."""
    wanted = os.environ.get("LLMSESS_CRASH")
    if not wanted:
        return None
    import signal

    point, name, *times = wanted.split(":")
    return point, signal.Signals[f"SIG{name}"], int(times[0]) if times else 1


_passed = 0


def reach(point: str) -> None:
    """End the process here, if a test has asked for it."""
    global _passed
    plan = _plan()
    if plan is None or plan[0] != point:
        return
    _passed += 1
    if _passed == plan[2]:
        os.kill(os.getpid(), plan[1])
