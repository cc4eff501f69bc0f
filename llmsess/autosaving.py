"""Snapshots by themselves: a thread that tags a session every so often, where something was said since.

What is said is stored anyway; these are marks to go back to. The thread is never in the way: it waits for the database
half a second at most, and tries again the next time. It ends with its block, and with the process.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Any

from llmsess import door, marking, pruning, sessions
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import Session, SessionSnapshot

EVERY_S = 300.0
LEAST_S = 0.001
KEEP = 10  # automatic snapshots of a session
PATIENCE_MS = 500  # for a lock
_STATE = f"""
    SELECT CASE WHEN h.status IN ('pending', 'streaming') THEN h.parent_id ELSE s.head_id END, s.model_id,
        {", ".join(f"s.{name}" for name in marking.SETTINGS if name != "model")}
    FROM sessions s LEFT JOIN messages h ON h.id = s.head_id WHERE s.id = ?
"""  # what a snapshot would have
_NEWEST = """
    SELECT head_id, session_state FROM session_snapshots WHERE session_id = ? ORDER BY created_at DESC, id DESC LIMIT 1
"""
_OLD = """
    SELECT id FROM session_snapshots WHERE session_id = ? AND snapshot_type = 'auto_save' AND name IS NULL
    ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?
"""


class Autosave:
    """Makes snapshots of type auto_save while its block runs; `latest` is the newest, `error` what went wrong last."""

    def __init__(self, session: Callable[[], Session | None], every_s: float, keep: int) -> None:
        self.session, self.keep = session, door.count(keep, "keep")
        if not isinstance(every_s, (int, float)) or not LEAST_S <= every_s < threading.TIMEOUT_MAX:  # nor NaN
            raise InvalidInput(f"autosave is a number of seconds from {LEAST_S} on, not {every_s}")
        if not keep:
            raise InvalidInput("autosave keeps at least one snapshot")
        self.every_s = every_s
        self.latest: SessionSnapshot | None = None
        self.error: Exception | None = None
        self.seen: Any = None  # the state of the session, as it was last looked at
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None

    def __enter__(self) -> Autosave:
        session = self.session()
        self.seen = None if session is None else self._state(session)
        self.stopping.clear()
        self.thread = threading.Thread(target=self._run, name="llmsess-autosave", daemon=True)
        atexit.register(self._stop)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        atexit.unregister(self._stop)

    def _stop(self) -> None:
        self.stopping.set()
        if self.thread is not None:
            self.thread.join()

    def _run(self) -> None:
        while not self.stopping.wait(self.every_s):
            try:
                database.execute_sql(f"PRAGMA busy_timeout = {PATIENCE_MS}")  # of this thread's own connection
                self.save()
                self.error = None
            except Exception as error:  # noqa: BLE001  a thread has nobody to tell; the next time may do better
                self.error = error
            finally:
                if not database.is_closed():
                    database.close()

    def save(self) -> SessionSnapshot | None:
        """Make a snapshot where something was said or set since the last, and return it, else None."""
        session = self.session()
        if session is None:
            return None
        state = self._state(session)
        if state == self.seen:
            return None
        made = None
        with database.atomic():
            newest = database.execute_sql(_NEWEST, (session.id,)).fetchone()
            if newest != (state[0], None):  # else there is one of just this
                made = marking.mark(session.id, None, "auto_save")
                pruning.remove([row[0] for row in database.execute_sql(_OLD, (session.id, self.keep)).fetchall()])
        self.seen, self.latest = state, made or self.latest
        return made

    def _state(self, session: Session) -> Any:
        return database.execute_sql(_STATE, (sessions.id_of(session),)).fetchone()


def autosave(session: str | Session, *, every_s: float = EVERY_S, keep: int = KEEP) -> Autosave:
    """Return a context manager that makes a snapshot every so many seconds while its block runs, if anything changed.

    The newest `keep` automatic snapshots of the session stay. Leaving the block makes none. Raises NotFound,
    InvalidInput.
    """
    found = sessions.get(session)
    return Autosave(lambda: found, every_s, keep)
