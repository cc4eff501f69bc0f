"""The first schema: every table, the search index, the triggers that keep it and the totals, and the views.

The classes are frozen stand-ins, independent of today's models. Never edit after release.
"""

from typing import Any

from peewee import (
    SQL,
    BigIntegerField,
    BlobField,
    BooleanField,
    CharField,
    Check,
    DoubleField,
    Field,
    ForeignKeyField,
    IntegerField,
    JSONField,
    Model,
    TextField,
)


class Time(Field):
    field_type = "TIMESTAMPTZ"


class Base(Model):
    class Meta:
        legacy_table_names = False


class Project(Base):
    name = TextField(unique=True)
    uuid = CharField(32, unique=True)
    description = TextField(null=True)
    metadata = JSONField(null=True)
    created_at = Time()
    archived_at = Time(null=True)

    class Meta:
        table_name = "projects"


class LanguageModel(Base):
    uuid = CharField(32, unique=True)
    provider = TextField()
    model_name = TextField()
    model_version = TextField(default="")
    context_window = IntegerField(null=True)
    cost_per_1k_input_tokens = BigIntegerField(null=True)
    cost_per_1k_output_tokens = BigIntegerField(null=True)
    cost_per_1k_cached_tokens = BigIntegerField(null=True)
    base_url = TextField(null=True)
    api_key_env = TextField(null=True)
    parameters = JSONField(null=True)
    is_active = BooleanField(default=True)
    created_at = Time()

    class Meta:
        table_name = "models"
        indexes = ((("provider", "model_name", "model_version"), True),)


class Session(Base):
    uuid = CharField(32, unique=True)
    project = ForeignKeyField(Project, null=True, index=False, on_delete="SET NULL")
    model = ForeignKeyField(LanguageModel, null=True, index=False, on_delete="SET NULL")
    title = TextField(null=True, index=True)
    metadata = JSONField(null=True)
    session_type = TextField(default="single")
    status = TextField(default="active")
    system_prompt = TextField(null=True)
    temperature = DoubleField(null=True)
    max_tokens = IntegerField(null=True)
    parameters = JSONField(null=True)
    head_id = IntegerField(null=True, index=True, constraints=[SQL("REFERENCES messages (id) ON DELETE SET NULL")])
    parent_session = ForeignKeyField("self", null=True, on_delete="SET NULL")
    parent_external_id = TextField(null=True)
    relation = TextField(null=True)
    source = TextField(null=True)
    external_id = TextField(null=True)
    next_sequence = IntegerField(default=1)
    total_messages = IntegerField(default=0)
    total_input_tokens = BigIntegerField(default=0)
    total_cached_input_tokens = BigIntegerField(default=0)
    total_cache_write_tokens = BigIntegerField(default=0)
    total_output_tokens = BigIntegerField(default=0)
    total_cost = BigIntegerField(default=0)
    unpriced_messages = IntegerField(default=0)
    started_at = Time(null=True)
    last_activity_at = Time()
    ended_at = Time(null=True)

    class Meta:
        table_name = "sessions"
        indexes = (
            (("source", "external_id"), True),
            (("last_activity_at", "id"), False),
            (("project", "last_activity_at", "id"), False),
            (("model", "last_activity_at", "id"), False),
        )


Session.add_index(Session.index(Session.parent_external_id, where=Session.parent_external_id.is_null(False)))
Session.add_index(Session.index(Session.status, where=Session.status << ("archived", "deleted")))


class Setting(Base):
    key = TextField(unique=True)
    value = JSONField(null=True)

    class Meta:
        table_name = "settings"


class SessionTag(Base):
    session = ForeignKeyField(Session, index=False, on_delete="CASCADE")
    tag = TextField(index=True)

    class Meta:
        table_name = "session_tags"
        indexes = ((("session", "tag"), True),)


class Message(Base):
    uuid = CharField(32, unique=True)
    session = ForeignKeyField(Session, index=False, on_delete="CASCADE")
    sequence_number = IntegerField()
    parent = ForeignKeyField("self", null=True)
    parent_external_id = TextField(null=True)
    position = IntegerField()
    role = TextField()
    origin = TextField()
    status = TextField(default="complete")
    content = TextField(default="")
    reasoning = TextField(null=True)
    tool_text = TextField(null=True)
    parts = JSONField(null=True)
    content_sha256 = CharField(64, null=True)
    reasoning_sha256 = CharField(64, null=True)
    tool_text_sha256 = CharField(64, null=True)
    model = ForeignKeyField(LanguageModel, null=True, index=False)
    input_tokens = IntegerField(null=True)
    cached_input_tokens = IntegerField(null=True)
    cache_write_tokens = IntegerField(null=True)
    output_tokens = IntegerField(null=True)
    reasoning_tokens = IntegerField(null=True)
    usage = JSONField(null=True)
    cost = BigIntegerField(null=True)
    cost_source = TextField(null=True)
    latency_ms = IntegerField(null=True)
    ttft_ms = IntegerField(null=True)
    finish_reason = TextField(null=True)
    error = TextField(null=True)
    external_id = TextField(null=True)
    metadata = JSONField(null=True)
    owner = TextField(null=True)
    lease_expires_at = Time(null=True)
    created_at = Time(null=True)
    completed_at = Time(null=True)

    class Meta:
        table_name = "messages"
        indexes = (
            (("session", "sequence_number"), True),
            (
                (
                    "model", "created_at", "session", "role", "status", "input_tokens", "cached_input_tokens",
                    "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost", "latency_ms", "ttft_ms",
                ),
                False,
            ),
        )  # fmt: skip


for _field in (
    Message.parent_external_id, Message.external_id, Message.owner,
    Message.content_sha256, Message.reasoning_sha256, Message.tool_text_sha256,
):  # fmt: skip
    Message.add_index(Message.index(_field, where=_field.is_null(False)))


class Text(Base):
    sha256 = CharField(64, unique=True)
    content = TextField()
    size_bytes = IntegerField()

    class Meta:
        table_name = "texts"


class Blob(Base):
    sha256 = CharField(64, unique=True)
    media_type = TextField(null=True)
    size_bytes = IntegerField()
    data = BlobField()

    class Meta:
        table_name = "blobs"


class MessageBlob(Base):
    message = ForeignKeyField(Message, index=False, on_delete="CASCADE")
    blob = ForeignKeyField(Blob)
    position = IntegerField()

    class Meta:
        table_name = "message_blobs"
        indexes = ((("message", "position"), True),)


class Call(Base):
    message = ForeignKeyField(Message, null=True, on_delete="SET NULL")
    attempt = IntegerField(default=1)
    owner = TextField()
    request_sha256 = CharField(64)
    started_at = Time()
    first_token_at = Time(null=True)
    ended_at = Time(null=True)
    outcome = TextField(default="sent")
    http_status = IntegerField(null=True)
    error_kind = TextField(null=True)
    provider_request_id = TextField(null=True)
    reserved_cost = BigIntegerField(null=True)

    class Meta:
        table_name = "calls"


Call.add_index(Call.index(Call.outcome, where=Call.outcome == "sent"))


class BatchJob(Base):
    uuid = CharField(32, unique=True)
    name = TextField(unique=True)
    model = ForeignKeyField(LanguageModel, null=True)
    template = TextField(null=True)
    parameters = JSONField(null=True)
    spec_sha256 = CharField(64, null=True)
    status = TextField(default="created")
    rpm = IntegerField(null=True)
    tpm = IntegerField(null=True)
    concurrency = IntegerField(null=True)
    budget = BigIntegerField(null=True)
    on_unknown = TextField(default="hold")
    total_items = IntegerField(default=0)
    created_at = Time()
    started_at = Time(null=True)
    ended_at = Time(null=True)

    class Meta:
        table_name = "batch_jobs"


class BatchItem(Base):
    job = ForeignKeyField(BatchJob, index=False, on_delete="CASCADE")
    item_key = TextField()
    position = IntegerField()
    input = JSONField(null=True)
    session = ForeignKeyField(Session, null=True, on_delete="SET NULL")
    status = TextField(default="todo")
    attempts = IntegerField(default=0)
    lease_owner = TextField(null=True)
    lease_expires_at = Time(null=True)
    result = ForeignKeyField(Message, null=True, on_delete="SET NULL")
    error = TextField(null=True)

    class Meta:
        table_name = "batch_items"
        indexes = ((("job", "item_key"), True), (("job", "status", "position"), False))


class ComparisonGroup(Base):
    uuid = CharField(32, unique=True)
    name = TextField(unique=True)
    spec = TextField(null=True)
    spec_sha256 = CharField(64, null=True)
    baseline = TextField(null=True)
    batch_job = ForeignKeyField(BatchJob, null=True, on_delete="SET NULL")
    status = TextField(default="created")
    created_at = Time()

    class Meta:
        table_name = "comparison_groups"


class ComparisonSession(Base):
    group = ForeignKeyField(ComparisonGroup, index=False, on_delete="CASCADE")
    session = ForeignKeyField(Session, null=True, on_delete="SET NULL")
    variant = TextField()
    case_key = TextField()
    repeat = IntegerField(default=0)

    class Meta:
        table_name = "comparison_sessions"
        indexes = ((("group", "variant", "case_key", "repeat"), True),)


class ComparisonResult(Base):
    comparison_session = ForeignKeyField(ComparisonSession, index=False, on_delete="CASCADE")
    metric = TextField()
    scorer = TextField()
    score = DoubleField(null=True)
    passed = BooleanField(null=True)
    reason = TextField(null=True)
    error = TextField(null=True)
    evaluated_at = Time()

    class Meta:
        table_name = "comparison_results"
        indexes = ((("comparison_session", "metric"), False),)


class ComparisonVote(Base):
    group = ForeignKeyField(ComparisonGroup, index=False, on_delete="CASCADE")
    case_key = TextField()
    session_a = ForeignKeyField(Session, null=True, on_delete="SET NULL")
    session_b = ForeignKeyField(Session, null=True, on_delete="SET NULL")
    shown_first = TextField()
    winner = TextField()
    voter = TextField()
    voter_kind = TextField()
    swapped_pair = ForeignKeyField("self", null=True, on_delete="SET NULL")
    created_at = Time()

    class Meta:
        table_name = "comparison_votes"
        indexes = ((("group", "case_key"), False),)


class Workflow(Base):
    uuid = CharField(32, unique=True)
    name = TextField()
    version = IntegerField()
    definition = TextField()
    sha256 = CharField(64)
    created_at = Time()

    class Meta:
        table_name = "workflows"
        indexes = ((("name", "version"), True),)


class WorkflowExecution(Base):
    uuid = CharField(32, unique=True)
    workflow = ForeignKeyField(Workflow)
    status = TextField(default="pending")
    inputs = JSONField(null=True)
    outputs = JSONField(null=True)
    forked_from = ForeignKeyField("self", null=True, on_delete="SET NULL")
    forked_at_step = TextField(null=True)
    error = TextField(null=True)
    owner = TextField(null=True)
    created_at = Time()
    ended_at = Time(null=True)

    class Meta:
        table_name = "workflow_executions"


class WorkflowStep(Base):
    execution = ForeignKeyField(WorkflowExecution, index=False, on_delete="CASCADE")
    step_id = TextField()
    item_key = TextField(default="")
    kind = TextField()
    status = TextField(default="pending")
    attempt = IntegerField(default=0)
    input = JSONField(null=True)
    output = JSONField(null=True)
    session = ForeignKeyField(Session, null=True, on_delete="SET NULL")
    batch_job = ForeignKeyField(BatchJob, null=True, on_delete="SET NULL")
    error = TextField(null=True)
    started_at = Time(null=True)
    ended_at = Time(null=True)

    class Meta:
        table_name = "workflow_steps"
        indexes = ((("execution", "step_id", "item_key"), True),)


class PerformanceMetric(Base):
    bucket_start = Time()
    granularity = TextField()
    model = ForeignKeyField(LanguageModel, null=True, on_delete="CASCADE")
    project = ForeignKeyField(Project, null=True, on_delete="CASCADE")
    session_type = TextField()
    messages = IntegerField(default=0)
    calls = IntegerField(default=0)
    errors = IntegerField(default=0)
    input_tokens = BigIntegerField(default=0)
    cached_input_tokens = BigIntegerField(default=0)
    cache_write_tokens = BigIntegerField(default=0)
    output_tokens = BigIntegerField(default=0)
    reasoning_tokens = BigIntegerField(default=0)
    cost = BigIntegerField(default=0)
    unpriced = IntegerField(default=0)
    latency_histogram = JSONField(null=True)
    ttft_histogram = JSONField(null=True)

    class Meta:
        table_name = "performance_metrics"
        indexes = ((("granularity", "bucket_start", "model", "project", "session_type"), True),)


class SessionSnapshot(Base):
    uuid = CharField(32, unique=True)
    session = ForeignKeyField(Session, index=False, on_delete="CASCADE")
    name = TextField(null=True)
    snapshot_type = TextField(default="manual")
    head = ForeignKeyField(Message, null=True)
    sequence_number = IntegerField()
    session_state = JSONField(null=True)
    context_window = JSONField(null=True)
    created_at = Time()

    class Meta:
        table_name = "session_snapshots"
        indexes = ((("session", "created_at"), False),)


class Annotation(Base):
    uuid = CharField(32, unique=True)
    session = ForeignKeyField(Session, null=True, on_delete="CASCADE")
    message = ForeignKeyField(Message, null=True, on_delete="CASCADE")
    name = TextField()
    value_number = DoubleField(null=True)
    value_text = TextField(null=True)
    explanation = TextField(null=True)
    annotator = TextField()
    annotator_kind = TextField()
    identifier = TextField(default="")
    created_at = Time()
    updated_at = Time(null=True)

    class Meta:
        table_name = "annotations"
        constraints = [Check("(session_id IS NULL) <> (message_id IS NULL)")]
        indexes = (
            (("session", "name", "annotator", "identifier"), True),
            (("message", "name", "annotator", "identifier"), True),
        )


class ImportSource(Base):
    path = TextField()
    format = TextField()
    sha256 = CharField(64, index=True)
    size_bytes = BigIntegerField()
    mtime = Time(null=True)
    imported_at = Time()
    complete = BooleanField(default=False)

    class Meta:
        table_name = "import_sources"
        indexes = ((("path", "format"), True),)


class ImportRecord(Base):
    source = ForeignKeyField(ImportSource, index=False, on_delete="CASCADE")
    line = IntegerField()
    external_id = TextField(null=True)
    message = ForeignKeyField(Message, null=True, on_delete="SET NULL")
    disposition = TextField()
    problem = TextField(null=True)
    raw_record = BlobField(null=True)

    class Meta:
        table_name = "import_records"
        indexes = ((("source", "line"), False),)


ImportRecord.add_index(ImportRecord.index(ImportRecord.external_id, where=ImportRecord.external_id.is_null(False)))


TABLES = (
    Project, LanguageModel, Session, Setting, SessionTag, Message, Text, Blob, MessageBlob, Call, BatchJob, BatchItem,
    ComparisonGroup, ComparisonSession, ComparisonResult, ComparisonVote, Workflow, WorkflowExecution, WorkflowStep,
    PerformanceMetric, SessionSnapshot, Annotation, ImportSource, ImportRecord,
)  # fmt: skip


def whole(row: str, column: str) -> str:
    """SQL for a whole text of a message row, wherever it is stored."""
    return (
        f"CASE WHEN {row}.{column}_sha256 IS NULL THEN {row}.{column} "
        f"ELSE (SELECT t.content FROM texts t WHERE t.sha256 = {row}.{column}_sha256) END"
    )


def whole_texts(row: str) -> str:
    return ", ".join(whole(row, column) for column in ("content", "reasoning", "tool_text"))


INDEXED = "{row}.status NOT IN ('pending', 'streaming')"  # a reply is indexed once, when it is settled
UNPRICED = (  # a reply of a model, settled, without a price
    "({row}.role = 'assistant' AND {row}.origin = 'model' AND {row}.cost IS NULL "
    "AND {row}.status IN ('complete', 'interrupted'))"
)
SUMS = (
    ("total_input_tokens", "coalesce({row}.input_tokens, 0)"),
    ("total_cached_input_tokens", "coalesce({row}.cached_input_tokens, 0)"),
    ("total_cache_write_tokens", "coalesce({row}.cache_write_tokens, 0)"),
    ("total_output_tokens", "coalesce({row}.output_tokens, 0)"),
    ("total_cost", "coalesce({row}.cost, 0)"),
    ("unpriced_messages", UNPRICED),
)
COUNTED = ("total_messages", "1")
TEXTS = "content, reasoning, tool_text, content_sha256, reasoning_sha256, tool_text_sha256, status"
FIGURES = "session_id, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost, role, origin, status"
FORGET = (
    "INSERT INTO messages_fts (messages_fts, rowid, content, reasoning, tool_text) "
    f"VALUES ('delete', old.id, {whole_texts('old')});"
)
REMEMBER = f"INSERT INTO messages_fts (rowid, content, reasoning, tool_text) VALUES (new.id, {whole_texts('new')});"


def add(row: str, sign: str, sums: tuple[tuple[str, str], ...]) -> str:
    changes = ", ".join(f"{total} = {total} {sign} {value.format(row=row)}" for total, value in sums)
    return f"UPDATE sessions SET {changes} WHERE id = {row}.session_id;"


TRIGGERS = {
    # The index. 'delete' needs the old text, so what forgets runs before the change.
    "messages_fts_insert": f"AFTER INSERT ON messages WHEN {INDEXED.format(row='new')} BEGIN {REMEMBER} END",
    "messages_fts_update_old": (
        f"BEFORE UPDATE OF {TEXTS} ON messages WHEN {INDEXED.format(row='old')} BEGIN {FORGET} END"
    ),
    "messages_fts_update_new": (
        f"AFTER UPDATE OF {TEXTS} ON messages WHEN {INDEXED.format(row='new')} BEGIN {REMEMBER} END"
    ),
    "messages_fts_delete": f"BEFORE DELETE ON messages WHEN {INDEXED.format(row='old')} BEGIN {FORGET} END",
    # The totals.
    "messages_totals_insert": f"AFTER INSERT ON messages BEGIN {add('new', '+', (COUNTED, *SUMS))} END",
    "messages_totals_update": (
        f"AFTER UPDATE OF {FIGURES} ON messages BEGIN "
        f"{add('old', '-', (COUNTED, *SUMS))} {add('new', '+', (COUNTED, *SUMS))} END"
    ),
    "messages_totals_delete": f"AFTER DELETE ON messages BEGIN {add('old', '-', (COUNTED, *SUMS))} END",
}

VIEWS = {
    # What the index indexes: whole texts of settled messages.
    "messages_text": f"""
        SELECT m.id AS id, {whole("m", "content")} AS content, {whole("m", "reasoning")} AS reasoning,
            {whole("m", "tool_text")} AS tool_text
        FROM messages m WHERE {INDEXED.format(row="m")}
    """,
    "v_session_summary": """
        SELECT s.id AS id, s.uuid AS uuid, s.title AS title, s.session_type AS type, s.status AS status,
            p.name AS project,
            l.provider || '/' || l.model_name
                || CASE WHEN l.model_version = '' THEN '' ELSE '@' || l.model_version END AS model,
            (SELECT group_concat(t.tag, ' ') FROM session_tags t WHERE t.session_id = s.id) AS tags,
            coalesce(h.position, 0) AS messages, s.total_messages AS written_messages,
            s.total_input_tokens AS input_tokens, s.total_cached_input_tokens AS cached_input_tokens,
            s.total_cache_write_tokens AS cache_write_tokens, s.total_output_tokens AS output_tokens,
            s.total_cost AS cost_nano_usd,
            CASE WHEN s.total_cost > 0 OR s.unpriced_messages = 0 THEN s.total_cost / 1e9 END AS cost_usd,
            s.unpriced_messages AS unpriced_messages,
            s.source AS source, s.external_id AS external_id, parent.uuid AS parent, s.started_at AS started_at,
            s.last_activity_at AS last_activity_at,
            (SELECT substr(m.content, 1, 200) FROM messages m
                WHERE m.session_id = s.id AND m.role = 'user' AND m.origin = 'human'
                ORDER BY m.sequence_number LIMIT 1) AS first_prompt
        FROM sessions s
        LEFT JOIN projects p ON p.id = s.project_id
        LEFT JOIN models l ON l.id = s.model_id
        LEFT JOIN messages h ON h.id = s.head_id
        LEFT JOIN sessions parent ON parent.id = s.parent_session_id
    """,
}

SEARCH_INDEX = """
    CREATE VIRTUAL TABLE messages_fts USING fts5 (
        content, reasoning, tool_text,
        content='messages_text', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
    )
"""


def up(migrator: Any, db: Any) -> None:
    with db.bind_ctx(TABLES, bind_refs=False, bind_backrefs=False):
        db.create_tables(TABLES, safe=False)
    for name, select in VIEWS.items():
        db.execute_sql(f"CREATE VIEW {name} AS {select}")
    db.execute_sql(SEARCH_INDEX)
    for name, body in TRIGGERS.items():
        db.execute_sql(f"CREATE TRIGGER {name} {body}")
    db.execute_sql("PRAGMA application_id = 0x6C6C6D73")
    db.execute_sql("PRAGMA user_version = 1")


def down(migrator: Any, db: Any) -> None:
    for name in TRIGGERS:
        db.execute_sql(f"DROP TRIGGER {name}")
    db.execute_sql("DROP TABLE messages_fts")
    for name in VIEWS:
        db.execute_sql(f"DROP VIEW {name}")
    with db.bind_ctx(TABLES, bind_refs=False, bind_backrefs=False):
        db.drop_tables(TABLES, safe=False)
    db.execute_sql("PRAGMA user_version = 0")
