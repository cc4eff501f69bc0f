"""What snapshots promise: a name is one snapshot of its session, and each goes on showing the settings of its moment.

A snapshot keeps no settings of its own while they are the session's. Before the session's change, the trigger gives
each of its snapshots the old value, unless it has one already.
"""

from __future__ import annotations

from typing import Any

INDEX = "session_snapshots_session_id_name"
LIST_INDEX = "session_snapshots_created_at_id"
TRIGGER = "sessions_settings_update"
MODEL = """(
    SELECT provider || '/' || model_name || iif(model_version = '', '', '@' || model_version)
    FROM models WHERE id = OLD.model_id
)"""
SETTINGS = {  # the column of a session: (its key in a snapshot's state, its old value)
    "model_id": ("model", MODEL),
    "system_prompt": ("system_prompt", "CAST(OLD.system_prompt AS TEXT)"),
    "temperature": ("temperature", "iif(typeof(OLD.temperature) = 'blob', NULL, OLD.temperature)"),
    "max_tokens": ("max_tokens", "iif(typeof(OLD.max_tokens) = 'blob', NULL, OLD.max_tokens)"),
    "parameters": ("parameters", "iif(json_valid(OLD.parameters), json(OLD.parameters), NULL)"),
}


def up(migrator: Any, db: Any) -> None:
    db.execute_sql(f"CREATE UNIQUE INDEX {INDEX} ON session_snapshots (session_id, name)")
    db.execute_sql(f"CREATE INDEX {LIST_INDEX} ON session_snapshots (created_at, id)")
    keeping = "".join(
        f"""
        UPDATE session_snapshots SET session_state = json_insert(coalesce(session_state, '{{}}'), '$.{key}', {old})
        WHERE session_id = NEW.id AND OLD.{column} IS NOT NEW.{column} AND coalesce(json_valid(session_state), 1);"""
        for column, (key, old) in SETTINGS.items()
    )
    db.execute_sql(
        f"CREATE TRIGGER {TRIGGER} AFTER UPDATE OF {', '.join(SETTINGS)} ON sessions "
        f"WHEN EXISTS (SELECT 1 FROM session_snapshots WHERE session_id = NEW.id) BEGIN{keeping}\nEND"
    )
    db.execute_sql("PRAGMA user_version = 4")


def down(migrator: Any, db: Any) -> None:
    db.execute_sql(f"DROP TRIGGER {TRIGGER}")
    db.execute_sql(f"DROP INDEX {LIST_INDEX}")
    db.execute_sql(f"DROP INDEX {INDEX}")
    db.execute_sql("PRAGMA user_version = 3")
