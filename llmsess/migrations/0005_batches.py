"""What batches need: counts by state kept by triggers, budgets, rates, reservations, and providers' own batch services.

A job's row holds how many of its items are in each state, so that a list of jobs reads no item. Rates are kept as the
moment from which on the next request may leave, in microseconds of the epoch, shared by all processes.
"""

from __future__ import annotations

from typing import Any

STATES = ("todo", "claimed", "sent", "done", "failed", "unknown", "cancelled", "skipped")
SUMS = ("calls", "spent_cost", "reserved_cost", "spent_tokens", "reserved_tokens", "unpriced")
COLUMNS = {
    "batch_jobs": (
        "project_id INTEGER REFERENCES projects (id) ON DELETE SET NULL",
        "system_prompt TEXT",
        "answer_schema TEXT",
        "attachments TEXT",
        "key_column TEXT",
        "attach_column TEXT",
        "retries INTEGER",
        "use_cache INTEGER NOT NULL DEFAULT 0",
        "allow_unpriced INTEGER NOT NULL DEFAULT 0",
        "budget_tokens INTEGER",
        "budget_requests INTEGER",
        *(f"{name} INTEGER NOT NULL DEFAULT 0" for name in SUMS),
        "requests_free_at INTEGER",
        "tokens_free_at INTEGER",
        "paused_until INTEGER",
        "error TEXT",
        *(f"{name} INTEGER NOT NULL DEFAULT 0" for name in STATES),
    ),
    "batch_items": (
        "error_kind TEXT",
        "shard_id INTEGER REFERENCES batch_shards (id) ON DELETE SET NULL",
    ),
    "calls": ("reserved_tokens INTEGER",),
}
INDEXES = {
    "batch_jobs_project_id": "INDEX batch_jobs_project_id ON batch_jobs (project_id)",
    "batch_jobs_created_at_id": "INDEX batch_jobs_created_at_id ON batch_jobs (created_at, id)",
    "batch_items_job_id_position": "UNIQUE INDEX batch_items_job_id_position ON batch_items (job_id, position)",
    "batch_items_shard_id": "INDEX batch_items_shard_id ON batch_items (shard_id)",
    "calls_request_sha256": "INDEX calls_request_sha256 ON calls (request_sha256)",
}
SHARDS = """
    CREATE TABLE batch_shards (
        id INTEGER NOT NULL PRIMARY KEY,
        uuid VARCHAR(32) NOT NULL,
        job_id INTEGER NOT NULL REFERENCES batch_jobs (id) ON DELETE CASCADE,
        service TEXT NOT NULL,
        status TEXT NOT NULL,
        items INTEGER NOT NULL,
        sha256 VARCHAR(64),
        owner TEXT,
        remote_file TEXT,
        remote_id TEXT,
        counts TEXT,
        error TEXT,
        created_at TEXT NOT NULL,
        submitted_at TEXT,
        ended_at TEXT,
        fetched_at TEXT
    )
"""


def change(row: str, sign: str) -> str:
    counts = ", ".join(f"{state} = {state} {sign} ({row}.status = '{state}')" for state in STATES)
    return f"UPDATE batch_jobs SET {counts}, total_items = total_items {sign} 1 WHERE id = {row}.job_id;"


TRIGGERS = {
    "batch_items_insert": f"AFTER INSERT ON batch_items BEGIN {change('NEW', '+')} END",
    "batch_items_update": (
        "AFTER UPDATE OF status, job_id ON batch_items WHEN OLD.status IS NOT NEW.status OR OLD.job_id <> NEW.job_id "
        f"BEGIN {change('OLD', '-')} {change('NEW', '+')} END"
    ),
    "batch_items_delete": f"AFTER DELETE ON batch_items BEGIN {change('OLD', '-')} END",
}


def up(migrator: Any, db: Any) -> None:
    db.execute_sql(SHARDS)
    db.execute_sql("CREATE UNIQUE INDEX batch_shards_uuid ON batch_shards (uuid)")
    db.execute_sql("CREATE INDEX batch_shards_job_id ON batch_shards (job_id)")
    for table, columns in COLUMNS.items():
        for column in columns:
            db.execute_sql(f"ALTER TABLE {table} ADD COLUMN {column}")
    for index in INDEXES.values():
        db.execute_sql(f"CREATE {index}")
    for name, body in TRIGGERS.items():
        db.execute_sql(f"CREATE TRIGGER {name} {body}")
    db.execute_sql("PRAGMA user_version = 5")


def down(migrator: Any, db: Any) -> None:
    for name in TRIGGERS:
        db.execute_sql(f"DROP TRIGGER {name}")
    for name in INDEXES:
        db.execute_sql(f"DROP INDEX {name}")
    for table, columns in COLUMNS.items():
        for column in reversed(columns):
            db.execute_sql(f"ALTER TABLE {table} DROP COLUMN {column.split()[0]}")
    db.execute_sql("DROP TABLE batch_shards")
    db.execute_sql("PRAGMA user_version = 4")
