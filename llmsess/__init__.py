"""Keep every conversation with a language model in one SQLite file, and run new ones.

    import llmsess
    from llmsess import chat, search, sessions

    llmsess.connect("work.db")                    # or connect() for the default; makes and upgrades the file
    session = sessions.create("Debug", model="echo/echo")
    reply = chat.ask(session, "why is the sky blue?")
    for hit in search.find("sky -cloud"):
        print(hit.snippet)

Each area is a module: sessions, catalog, chat, snapshots, search, transfer, analytics, maintenance. Importing the
package is cheap; an area imports what it needs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from llmsess.errors import LlmsessError
from llmsess.version import __version__

if TYPE_CHECKING:
    from llmsess.db import Database

__all__ = ["LlmsessError", "__version__", "connect"]


def connect(path_or_url: str | os.PathLike[str] | None = None) -> Database:
    """Open the database, making or upgrading it where needed, and return it; see `llmsess.db.connect`."""
    from llmsess import db

    return db.connect(path_or_url)
