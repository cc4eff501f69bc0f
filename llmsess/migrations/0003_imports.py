"""What an import has to know of a session that comes again: the title it gave, the version it had, whether it is whole.

Totals follow a message that moves to another session, as it does when the session it was copied from is imported later.
"""

from __future__ import annotations

from typing import Any

COLUMNS = ("imported_title TEXT", "source_updated_at TEXT", "is_partial INTEGER")
TRIGGER = "messages_totals_update"
ONCE, NOW = "AFTER UPDATE OF ", "AFTER UPDATE OF session_id, "


def _replace_trigger(db: Any, old: str, new: str) -> None:
    sql = db.execute_sql("SELECT sql FROM sqlite_master WHERE name = ?", (TRIGGER,)).fetchone()[0]
    db.execute_sql(f"DROP TRIGGER {TRIGGER}")
    db.execute_sql(sql.replace(old, new))


def up(migrator: Any, db: Any) -> None:
    for column in COLUMNS:
        db.execute_sql(f"ALTER TABLE sessions ADD COLUMN {column}")
    _replace_trigger(db, ONCE, NOW)
    db.execute_sql("PRAGMA user_version = 3")


def down(migrator: Any, db: Any) -> None:
    _replace_trigger(db, NOW, ONCE)
    for column in COLUMNS:
        db.execute_sql(f"ALTER TABLE sessions DROP COLUMN {column.split()[0]}")
    db.execute_sql("PRAGMA user_version = 2")
