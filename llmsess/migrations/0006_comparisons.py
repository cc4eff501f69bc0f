"""What comparisons need: their variants and cases in tables of their own, which answer a cell has, how it was scored.

A batch says of which type its sessions are. Votes name their variants, for a session may be deleted.
"""

from __future__ import annotations

from typing import Any

TABLES = (
    """
    CREATE TABLE comparison_variants (
        id INTEGER NOT NULL PRIMARY KEY,
        group_id INTEGER NOT NULL REFERENCES comparison_groups (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        model TEXT,
        prompt TEXT,
        system_prompt TEXT,
        parameters TEXT
    )
    """,
    """
    CREATE TABLE comparison_cases (
        id INTEGER NOT NULL PRIMARY KEY,
        group_id INTEGER NOT NULL REFERENCES comparison_groups (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        case_key TEXT NOT NULL,
        variables TEXT,
        messages TEXT,
        assertions TEXT,
        description TEXT,
        threshold REAL,
        metadata TEXT
    )
    """,
)
COLUMNS = {
    "comparison_groups": (
        "assertions TEXT",
        "repeats INTEGER NOT NULL DEFAULT 1",
        "judge TEXT",
        "judge_job_id INTEGER REFERENCES batch_jobs (id) ON DELETE SET NULL",
        "cluster TEXT",
        "derived TEXT",
        "notes TEXT",
        "lenient INTEGER NOT NULL DEFAULT 0",
    ),
    "comparison_sessions": (
        "item_id INTEGER REFERENCES batch_items (id) ON DELETE SET NULL",
        "message_id INTEGER REFERENCES messages (id) ON DELETE SET NULL",
        "score REAL",
        "passed INTEGER",
    ),
    "comparison_results": (
        "position TEXT NOT NULL DEFAULT ''",
        "outcome TEXT NOT NULL DEFAULT 'scored'",
        "weight REAL NOT NULL DEFAULT 1",
    ),
    "comparison_votes": ("variant_a TEXT", "variant_b TEXT", "repeat INTEGER NOT NULL DEFAULT 0", "reason TEXT"),
    "batch_jobs": ("session_type TEXT NOT NULL DEFAULT 'batch'",),
}
INDEXES = {
    "comparison_variants_group_id_name": "UNIQUE INDEX comparison_variants_group_id_name "
    "ON comparison_variants (group_id, name)",
    "comparison_cases_group_id_case_key": "UNIQUE INDEX comparison_cases_group_id_case_key "
    "ON comparison_cases (group_id, case_key)",
    "comparison_groups_created_at_id": "INDEX comparison_groups_created_at_id ON comparison_groups (created_at, id)",
    "comparison_groups_judge_job_id": "INDEX comparison_groups_judge_job_id ON comparison_groups (judge_job_id)",
    "comparison_sessions_group_id_id": "INDEX comparison_sessions_group_id_id ON comparison_sessions (group_id, id)",
    "comparison_sessions_item_id": "INDEX comparison_sessions_item_id ON comparison_sessions (item_id)",
    "comparison_sessions_message_id": "INDEX comparison_sessions_message_id ON comparison_sessions (message_id)",
}


def up(migrator: Any, db: Any) -> None:
    for table in TABLES:
        db.execute_sql(table)
    for table, columns in COLUMNS.items():
        for column in columns:
            db.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column}")
    for index in INDEXES.values():
        db.execute_sql(f"CREATE {index}")
    db.execute_sql("PRAGMA user_version = 6")


def down(migrator: Any, db: Any) -> None:
    for name in INDEXES:
        db.execute_sql(f"DROP INDEX {name}")
    for table, columns in COLUMNS.items():
        for column in reversed(columns):
            db.execute_sql(f"ALTER TABLE {table} DROP COLUMN {column.split()[0]}")
    for table in ("comparison_cases", "comparison_variants"):
        db.execute_sql(f"DROP TABLE {table}")
    db.execute_sql("PRAGMA user_version = 5")
