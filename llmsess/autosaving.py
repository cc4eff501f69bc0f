"""Snapshots by themselves: a thread that tags a session every so often, where something was said since.

What is said is stored anyway; these are marks to go back to. The thread is never in the way: it waits for the database
half a second at most, and tries again the next time. It ends with its block, and with the process.
"""

from __future__ import annotations

import atexit
import math
import threading
from collections.abc import Callable
from typing import Any

from llmsess import door, marking, pruning, sessions
from llmsess.db import DRIVER_ERRORS, database
from llmsess.errors import InvalidInput, LlmsessError
from llmsess.models import Session, SessionSnapshot

EVERY_S = 300.0
KEEP = 10  # automatic snapshots of a session
PATIENCE_MS = 500  # for a lock
_STATE = f"""
    SELECT s.uuid, s.head_id, s.model_id, {", ".join(f"s.{name}" for name in marking.SETTINGS if name != "model")}
    FROM sessions s WHERE s.id = ?
"""
_NEWEST = """
    SELECT head_id, session_state FROM session_snapshots WHERE session_id = ? ORDER BY created_at DESC, id DESC LIMIT 1
"""
_OLD = """
    SELECT id FROM session_snapshots WHERE session_id = ? AND snapshot_type = 'auto_save'
    ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?
"""


_EXPECTED: tuple[type[Exception], ...] = (LlmsessError, *DRIVER_ERRORS)


class Autosave:
    """Makes snapshots of type auto_save while its block runs; `latest` is the newest, `error` what went wrong last."""

    def __init__(self, session: Callable[[], Session | None], every_s: float, keep: int) -> None:
        self.session, self.keep = session, door.count(keep, "keep")
        if not isinstance(every_s, (int, float)) or not 0 < every_s < threading.TIMEOUT_MAX or math.isnan(every_s):
            raise InvalidInput(f"autosave is a number of seconds above 0, not {every_s}")
        if not keep:
            raise InvalidInput("autosave keeps at least one snapshot")
        self.every_s = every_s
        self.latest: SessionSnapshot | None = None
        self.error: Exception | None = None
        self.seen: Any = None  # the state of the session, as it was last looked at
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="llmsess-autosave", daemon=True)

    def __enter__(self) -> Autosave:
        session = self.session()
        self.seen = None if session is None else self._state(session)
        atexit.register(self._stop)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        atexit.unregister(self._stop)

    def _stop(self) -> None:
        self.stopping.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.stopping.wait(self.every_s):
            try:
                database.execute_sql(f"PRAGMA busy_timeout = {PATIENCE_MS}")  # of this thread's own connection
                self.save()
                self.error = None
            except _EXPECTED as error:
                self.error = error  # told by whoever asks; the next time may do better
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
        with database.atomic():
            newest = database.execute_sql(_NEWEST, (session.id,)).fetchone()
            made: SessionSnapshot | None = marking.mark(session.id, None, "auto_save")
            assert made is not None
            if newest == (made.head_id, None):  # there is one of just this
                pruning.remove([made.id])
                made = None
            pruning.remove([row[0] for row in database.execute_sql(_OLD, (session.id, self.keep)).fetchall()])
        self.seen, self.latest = state, made or self.latest
        return made

    def _state(self, session: Session) -> Any:
        return database.execute_sql(_STATE, (sessions.id_of(session),)).fetchone()


def autosave(session: str | Session, *, every_s: float = EVERY_S, keep: int = KEEP) -> Autosave:
    """Return a context manager that makes a snapshot every so many seconds while its block runs, if anything changed.

    The newest `keep` automatic snapshots of the session stay. Raises NotFound, InvalidInput.
    """
    found = sessions.get(session)
    return Autosave(lambda: found, every_s, keep)
