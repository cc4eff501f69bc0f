"""A place on disk for what is laid aside during one operation, beside the open database and gone with the process."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmsess.db import database


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """Attach an empty database on disk for a block, and yield its name in SQL; nothing of it stays.

    Temporary tables lie in memory, for which those of most commands are small enough. Inside a transaction, where
    nothing can be attached, it is these.
    """
    if database.in_transaction():
        yield "temp"
        return
    with tempfile.TemporaryDirectory(prefix="llmsess-") as folder:
        path = Path(folder) / "scratch.db"
        database.execute_sql("ATTACH ? AS scratch", (str(path),))
        try:
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -4000", "user_version = 1"):
                database.execute_sql(f"PRAGMA scratch.{pragma}")
            if os.name == "posix":
                path.unlink()  # what is written from now on is gone with the process, however that ends
            yield "scratch"
        finally:
            database.execute_sql("DETACH scratch")
