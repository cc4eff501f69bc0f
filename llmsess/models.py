"""All tables. A message is a node of a tree and never changes once settled; a session is a name for a head message.

Integer keys inside, a random 32-hex `uuid` outside. Times are UTC (`UtcDateTimeField`). Money is integer nano-USD
(1e-9 USD). The triggers that keep the search index and the sessions' totals, and the views, are written in the
migrations; `maintenance.check()` proves the invariants.

Field comments name the unit or shape, who writes it, and what NULL means.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from peewee import (
    AutoField,
    BigIntegerField,
    BlobField,
    BooleanField,
    CharField,
    Check,
    DeferredForeignKey,
    DoubleField,
    Field,
    ForeignKeyField,
    IntegerField,
    JSONField,
    Model,
    TextField,
)
from playhouse.sqlite_ext import FTS5Model, SearchField

from llmsess.db import database
from llmsess.texts import clean_json, one_line

MAX_TOKENS = 10**10  # of one reply: more is a mistake, and would make sums overflow
MAX_COST_USD = 1_000_000  # of one reply: more is a mistake
NANO = 1_000_000_000  # nano-USD in a USD


def new_uuid() -> str:
    """Return a random identifier of 32 hexadecimal digits."""
    return os.urandom(16).hex()


def now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)


def usd(nano: int | None, unpriced: int = 0) -> Decimal | None:
    """Return nano-USD as exact USD, None for unknown, and for a sum of 0 that leaves out what has no price."""
    return None if nano is None or (nano == 0 and unpriced) else Decimal(nano) / NANO


TOKEN_FIELDS = ("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


def token_count(value: Any) -> int | None:
    """Return a token count that can be one, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_TOKENS else None


def reported_usd(value: Any) -> Decimal | None:
    """Return a reported cost of one reply in USD that can be one, None for anything else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < MAX_COST_USD:
        return None
    return Decimal(str(value))


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def dump_json(value: Any) -> str:
    """Return compact JSON as every JSON column stores it: clean strings, finite numbers."""
    try:
        text = _encode(value)
        text.encode()
    except ValueError:  # NaN, or UnicodeEncodeError for a lone surrogate
        return _encode(clean_json(value))
    return _encode(clean_json(value)) if "\\u0000" in text else text


class UtcDateTimeField(Field):
    """An aware datetime, stored as UTC text of one width, `2026-01-31T13:00:02.000000Z`: text order is time order."""

    field_type = "TIMESTAMPTZ"

    def db_value(self, value: Any) -> Any:
        return time_text(value) if isinstance(value, datetime) else value

    def python_value(self, value: Any) -> datetime | None:
        return parse_time(value) if isinstance(value, str) else value


def time_text(value: datetime) -> str:
    """Return an aware datetime as the stored text; raises ValueError for a naive one."""
    if value.tzinfo is None:
        raise ValueError("a stored time needs a time zone")
    utc = value if value.tzinfo is UTC else value.astimezone(UTC)
    return f"{utc.isoformat(timespec='microseconds')[:26]}Z"


def parse_time(text: str) -> datetime:
    """Return the aware datetime of a stored text."""
    return datetime.fromisoformat(text)


class NanoUsdField(BigIntegerField):
    """Money in integer nano-USD; exact in sums."""


def Json(**options: Any) -> JSONField:
    """Return a core JSONField that writes compact JSON and refuses NaN."""
    return JSONField(dumps=dump_json, null=True, **options)


class Base(Model):
    id = AutoField()  # ours, inside only

    class Meta:
        database = database
        legacy_table_names = False

    def __str__(self) -> str:
        """Return what tells a row from others: its uuid's beginning, its name, title or first words; repr() has it."""
        data = self.__data__
        said = next((str(data[key]) for key in ("name", "title", "content") if data.get(key)), "")
        identity = str(data.get("uuid") or data.get("id"))[:8]
        return " ".join(filter(None, (identity, one_line(said, 40))))


class Project(Base):
    name = TextField(unique=True)  # as the person typed it, or the working folder of an import
    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    description = TextField(null=True)  # free text; NULL: none given
    metadata = Json()  # object; NULL: none
    created_at = UtcDateTimeField(default=now)  # when the row was made
    archived_at = UtcDateTimeField(null=True)  # NULL: in use

    class Meta:
        table_name = "projects"


class LanguageModel(Base):
    """A language model one can call or has imported from; `provider/model_name` names it."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    provider = TextField()  # openai, anthropic, ollama, echo, ...
    model_name = TextField()  # the provider's own name
    model_version = TextField(default="")  # a dated version, empty: unversioned
    context_window = IntegerField(null=True)  # tokens; NULL: unknown
    cost_per_1k_input_tokens = NanoUsdField(null=True)  # nano-USD, set by a person; NULL: look up
    cost_per_1k_output_tokens = NanoUsdField(null=True)  # nano-USD, set by a person; NULL: look up
    cost_per_1k_cached_tokens = NanoUsdField(null=True)  # nano-USD; NULL: as input
    base_url = TextField(null=True)  # of an OpenAI-compatible server; NULL: the provider's own
    api_key_env = TextField(null=True)  # the NAME of an environment variable, never a key; NULL: the provider's
    parameters = Json()  # default request parameters, an object; NULL: none
    is_active = BooleanField(default=True)  # false: removed, but messages name it
    created_at = UtcDateTimeField(default=now)  # when the row was made

    class Meta:
        table_name = "models"
        indexes = ((("provider", "model_name", "model_version"), True),)

    @property
    def reference(self) -> str:
        """Return `provider/name`, with `@version` where there is one."""
        return f"{self.provider}/{self.model_name}" + (f"@{self.model_version}" if self.model_version else "")

    def __str__(self) -> str:
        return self.reference


class Session(Base):
    """A branch: one conversation, from its head message to the root."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    project = ForeignKeyField(Project, null=True, index=False, on_delete="SET NULL")  # NULL: in none
    project_id: int | None
    model = ForeignKeyField(LanguageModel, null=True, index=False, on_delete="SET NULL")  # last used; NULL: unknown
    model_id: int | None
    title = TextField(null=True, index=True)  # typed, imported, or cut from the first prompt; NULL: none
    metadata = Json()  # object; NULL: none
    session_type = TextField(default="single")  # single, comparison, batch, workflow, imported
    status = TextField(default="active")  # active, completed, interrupted, failed, archived, deleted
    system_prompt = TextField(null=True)  # a setting, sent before the messages; NULL: none
    temperature = DoubleField(null=True)  # sampling temperature; NULL: the provider's default
    max_tokens = IntegerField(null=True)  # tokens of a reply; NULL: the provider's default
    parameters = Json()  # further request parameters, an object; NULL: none
    head = DeferredForeignKey("Message", null=True, on_delete="SET NULL", backref="+")  # last message; NULL: empty
    head_id: int | None
    parent_session = ForeignKeyField("self", null=True, on_delete="SET NULL")  # NULL: not a branch
    parent_session_id: int | None
    parent_external_id = TextField(null=True)  # the parent's external id while it is not imported yet, else NULL
    relation = TextField(null=True)  # to the parent: fork, restore, subagent, resume; NULL: none
    source = TextField(null=True)  # the importer's name; NULL: made here
    external_id = TextField(null=True)  # the source's own id; NULL: made here
    next_sequence = IntegerField(default=1)  # the sequence_number of the next message
    total_messages = IntegerField(default=0)  # rows written in this session; kept by triggers, as all totals
    total_input_tokens = BigIntegerField(default=0)  # known input tokens, cached included
    total_cached_input_tokens = BigIntegerField(default=0)  # of them read from a cache
    total_cache_write_tokens = BigIntegerField(default=0)  # of them written to a cache
    total_output_tokens = BigIntegerField(default=0)  # known output tokens, reasoning included
    total_cost = NanoUsdField(default=0)  # known costs
    unpriced_messages = IntegerField(default=0)  # settled replies of a model without a cost
    started_at = UtcDateTimeField(null=True, default=now)  # first activity; NULL: the source does not tell
    last_activity_at = UtcDateTimeField(default=now)  # last message or the start, never NULL
    ended_at = UtcDateTimeField(null=True)  # when it was closed; NULL: open
    imported_title = TextField(null=True)  # the title an import gave last; NULL: none, or made here
    source_updated_at = UtcDateTimeField(null=True)  # which version was imported, as its source tells; NULL: not told
    is_partial = BooleanField(null=True)  # true: hidden, here only for messages that others hang on; NULL: whole

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


class ModelAlias(Base):
    """A short name for a language model."""

    model = ForeignKeyField(LanguageModel, on_delete="CASCADE")  # which it means
    model_id: int
    name = TextField(unique=True)  # one word without a slash, as a person typed it

    class Meta:
        table_name = "model_aliases"


class Template(Base):
    """A saved prompt."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    name = TextField(unique=True)  # a person's name for it
    definition = TextField()  # YAML, verbatim: prompt, system, model, defaults, options, ... (see templates.py)
    created_at = UtcDateTimeField(default=now)  # when the row was made
    updated_at = UtcDateTimeField(default=now)  # when the definition was last changed

    class Meta:
        table_name = "templates"


class Setting(Base):
    """What a person set for this database."""

    key = TextField(unique=True)  # default_model
    value = Json()  # any JSON

    class Meta:
        table_name = "settings"


class SessionTag(Base):
    session = ForeignKeyField(Session, index=False, on_delete="CASCADE")  # the tagged one
    session_id: int
    tag = TextField(index=True)  # a word, lower case

    class Meta:
        table_name = "session_tags"
        indexes = ((("session", "tag"), True),)


class Message(Base):
    """A node of the tree. The transcript of a session is the path from its head to the root."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    session = ForeignKeyField(Session, index=False, on_delete="CASCADE")  # where it was written
    session_id: int
    sequence_number = IntegerField()  # order of writing in its session, from 1
    parent = ForeignKeyField("self", null=True)  # may lie in another session (a fork); NULL: a root
    parent_id: int | None
    parent_external_id = TextField(null=True)  # while the parent is unknown, else NULL
    position = IntegerField()  # distance from the root, from 1; always the parent's + 1
    role = TextField()  # system, developer, user, assistant, tool, event
    origin = TextField()  # who really wrote it: human, model, tool, harness
    status = TextField(default="complete")  # complete, pending, streaming, interrupted, failed
    content = TextField(default="")  # the visible text, or its first 1 KiB where content_sha256 is set
    reasoning = TextField(null=True)  # the model's thinking, likewise; NULL: none
    tool_text = TextField(null=True)  # tool calls and results as searchable text, likewise; NULL: none
    parts = Json()  # exact structured content, its texts as spans of the fields (see parts.py); NULL: content says all
    content_sha256 = CharField(64, null=True)  # of the whole text in `texts`; NULL: content is whole
    reasoning_sha256 = CharField(64, null=True)  # likewise
    tool_text_sha256 = CharField(64, null=True)  # likewise
    model = ForeignKeyField(LanguageModel, null=True, index=False)  # who answered; NULL: not a model, or unknown
    model_id: int | None
    input_tokens = IntegerField(null=True)  # all input, cached and cache writes included; NULL: unknown
    cached_input_tokens = IntegerField(null=True)  # of them read from a cache; NULL: unknown
    cache_write_tokens = IntegerField(null=True)  # of them written to a cache; NULL: unknown
    output_tokens = IntegerField(null=True)  # all output, reasoning included; NULL: unknown
    reasoning_tokens = IntegerField(null=True)  # of them thinking; NULL: unknown
    usage = Json()  # the provider's own object, verbatim; NULL: none was sent
    cost = NanoUsdField(null=True)  # NULL: no price is known
    cost_source = TextField(null=True)  # provider, model, catalog; NULL: no cost
    latency_ms = IntegerField(null=True)  # from sending to the end, milliseconds; NULL: not measured
    ttft_ms = IntegerField(null=True)  # from sending to the first text, milliseconds; NULL: not streamed
    finish_reason = TextField(null=True)  # the provider's word; NULL: none
    error = TextField(null=True)  # what went wrong, one line; NULL: nothing
    external_id = TextField(null=True)  # the source's own id, unique in the source; NULL: made here
    metadata = Json()  # object; NULL: none
    owner = TextField(null=True)  # host/pid/start of the process that writes it; NULL: settled
    lease_expires_at = UtcDateTimeField(null=True)  # until when another host must not take it over; NULL: settled
    created_at = UtcDateTimeField(null=True, default=now)  # when it was said; NULL: the source does not tell
    completed_at = UtcDateTimeField(null=True)  # when it was settled; NULL: not yet, or not told

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
    """A large text, stored once, never changed."""

    sha256 = CharField(64, unique=True)  # hex, of the UTF-8 bytes
    content = TextField()  # the whole text
    size_bytes = IntegerField()  # of the UTF-8 form

    class Meta:
        table_name = "texts"


class Blob(Base):
    """An attachment, stored once."""

    sha256 = CharField(64, unique=True)  # hex, of the bytes
    media_type = TextField(null=True)  # as image/png; NULL: unknown
    size_bytes = IntegerField()  # length of data
    data = BlobField()  # the bytes

    class Meta:
        table_name = "blobs"


class MessageBlob(Base):
    message = ForeignKeyField(Message, index=False, on_delete="CASCADE")  # which message holds it
    message_id: int
    blob = ForeignKeyField(Blob)  # what
    blob_id: int
    position = IntegerField()  # which attachment of the message, from 0

    class Meta:
        table_name = "message_blobs"
        indexes = ((("message", "position"), True),)


class Call(Base):
    """One request sent to a provider: the ledger. Committed before the request leaves, it outlives its message."""

    message = ForeignKeyField(Message, null=True, on_delete="SET NULL")  # the reply; NULL: deleted since
    message_id: int | None
    attempt = IntegerField(default=1)  # from 1
    owner = TextField()  # host/pid/start of the sending process
    request_sha256 = CharField(64)  # of the request's canonical JSON
    started_at = UtcDateTimeField(default=now)  # when it was about to be sent
    first_token_at = UtcDateTimeField(null=True)  # NULL: not streamed, or nothing came
    ended_at = UtcDateTimeField(null=True)  # NULL: not answered yet
    outcome = TextField(default="sent")  # sent, ok, error, unknown, cancelled
    http_status = IntegerField(null=True)  # NULL: no answer
    error_kind = TextField(null=True)  # as ProviderError.error_kind; NULL: none
    provider_request_id = TextField(null=True)  # the provider's own; NULL: none sent
    reserved_cost = NanoUsdField(null=True)  # held against a budget while unanswered; NULL: no budget
    reserved_tokens = BigIntegerField(null=True)  # likewise, of a batch; NULL: none of a batch

    class Meta:
        table_name = "calls"
        indexes = ((("request_sha256",), False),)


Call.add_index(Call.index(Call.outcome, where=Call.outcome == "sent"))


class BatchJob(Base):
    """Many prompts, one definition."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    name = TextField(unique=True)  # a person's name for it
    model = ForeignKeyField(LanguageModel, null=True)  # of every item; NULL: items name their own
    model_id: int | None
    template = TextField(null=True)  # Jinja over an input row; NULL: the input is the prompt
    parameters = Json()  # request parameters, an object; NULL: none
    spec_sha256 = CharField(64, null=True)  # of the definition; NULL: made step by step
    status = TextField(default="created")  # created, running, paused, done, failed, cancelled
    rpm = IntegerField(null=True)  # requests per minute; NULL: unlimited
    tpm = IntegerField(null=True)  # tokens per minute; NULL: unlimited
    concurrency = IntegerField(null=True)  # requests at a time; NULL: the default
    budget = NanoUsdField(null=True)  # cap on spent + reserved; NULL: none
    on_unknown = TextField(default="hold")  # an unanswered send after a crash: hold, resend
    total_items = IntegerField(default=0)  # items created; kept by triggers, as the counts by state below
    created_at = UtcDateTimeField(default=now)  # when the row was made
    started_at = UtcDateTimeField(null=True)  # first run; NULL: never run
    ended_at = UtcDateTimeField(null=True)  # all items settled; NULL: not yet
    project = ForeignKeyField(Project, null=True, on_delete="SET NULL")  # of its sessions; NULL: none
    project_id: int | None
    system_prompt = TextField(null=True)  # of every item that has none of its own; NULL: none
    answer_schema = Json()  # a JSON Schema that each answer must fit; NULL: none
    key_column = TextField(null=True)  # of the input, whose value is an item's key; NULL: custom_id
    attach_column = TextField(null=True)  # of the input, whose value names files that go along; NULL: none
    attachments = Json()  # paths and URLs that go with every prompt, a list; NULL: none
    retries = IntegerField(null=True)  # of one request, after the first attempt; NULL: the default
    use_cache = BooleanField(default=False)  # an equal request that was answered before is not sent again
    allow_unpriced = BooleanField(default=False)  # under a budget in USD, models without a price too
    budget_tokens = BigIntegerField(null=True)  # cap on tokens spent + reserved; NULL: none
    budget_requests = BigIntegerField(null=True)  # cap on calls; NULL: none
    calls = BigIntegerField(default=0)  # requests sent, as in the ledger
    spent_cost = BigIntegerField(default=0)  # nano-USD of answers
    reserved_cost = BigIntegerField(default=0)  # nano-USD of what is sent and not answered, or unknown
    spent_tokens = BigIntegerField(default=0)  # input and output of answers
    reserved_tokens = BigIntegerField(default=0)  # likewise of what is not answered, or unknown
    unpriced = BigIntegerField(default=0)  # answers without a price
    requests_free_at = BigIntegerField(null=True)  # microseconds of the epoch: rpm lets one leave; NULL: now
    tokens_free_at = BigIntegerField(null=True)  # likewise of tpm
    paused_until = BigIntegerField(null=True)  # likewise: a server asked to wait
    error = TextField(null=True)  # why it stopped before its end, one line; NULL: it did not
    todo = IntegerField(default=0)  # items in that state; so the next seven
    claimed = IntegerField(default=0)  # held by a process, not sent
    sent = IntegerField(default=0)  # not answered yet
    done = IntegerField(default=0)  # answered
    failed = IntegerField(default=0)  # refused, or the answer is of no use
    unknown = IntegerField(default=0)  # sent, the answer lost
    cancelled = IntegerField(default=0)  # by a person
    skipped = IntegerField(default=0)  # unknown ones that a person gave up
    session_type = TextField(default="batch")  # of its sessions: batch, comparison, workflow

    class Meta:
        table_name = "batch_jobs"
        indexes = ((("created_at", "id"), False),)


class BatchShard(Base):
    """A part of a job at a provider's own batch service."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours; sent along, so that a lost one is found again
    job = ForeignKeyField(BatchJob, on_delete="CASCADE")  # of which job
    job_id: int
    service = TextField()  # openai, anthropic
    status = TextField(default="planning")  # planning, planned, created, ended, fetched, failed
    items = IntegerField(default=0)  # how many requests it has
    sha256 = CharField(64, null=True)  # of the requests as sent; NULL: not written yet
    owner = TextField(null=True)  # host/pid/start of the process that submits it; NULL: none
    remote_file = TextField(null=True)  # the service's id of the uploaded requests; NULL: none
    remote_id = TextField(null=True)  # the service's id of the batch; NULL: not known to be made
    counts = Json()  # the service's own counts, verbatim; NULL: not asked yet
    error = TextField(null=True)  # what went wrong, one line; NULL: nothing
    created_at = UtcDateTimeField(default=now)  # when the row was made
    submitted_at = UtcDateTimeField(null=True)  # the service took it; NULL: not yet
    ended_at = UtcDateTimeField(null=True)  # the service was through; NULL: not yet
    fetched_at = UtcDateTimeField(null=True)  # the results are stored; NULL: not yet

    class Meta:
        table_name = "batch_shards"


class BatchItem(Base):
    """One prompt of a job."""

    job = ForeignKeyField(BatchJob, index=False, on_delete="CASCADE")  # of which job
    job_id: int
    item_key = TextField()  # custom_id or content hash, unique in the job
    position = IntegerField()  # order of the input, from 0
    input = Json()  # the input row
    session = ForeignKeyField(Session, null=True, on_delete="SET NULL")  # its conversation; NULL: not started
    session_id: int | None
    status = TextField(default="todo")  # todo, claimed, sent, done, failed, unknown, cancelled, skipped
    attempts = IntegerField(default=0)  # requests sent
    lease_owner = TextField(null=True)  # host/pid/start; NULL: free
    lease_expires_at = UtcDateTimeField(null=True)  # NULL: free
    result = ForeignKeyField(Message, null=True, on_delete="SET NULL")  # the reply; NULL: none yet
    result_id: int | None
    error = TextField(null=True)  # what went wrong, one line; NULL: nothing
    error_kind = TextField(null=True)  # as ProviderError.error_kind, or input, schema, expired; NULL: nothing
    shard = ForeignKeyField(BatchShard, null=True, on_delete="SET NULL")  # at a batch service; NULL: not there
    shard_id: int | None

    class Meta:
        table_name = "batch_items"
        indexes = ((("job", "item_key"), True), (("job", "status", "position"), False), (("job", "position"), True))


class ComparisonGroup(Base):
    """An A/B test."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    name = TextField(unique=True)  # a person's name for it
    spec = TextField(null=True)  # the definition, verbatim; NULL: assembled from sessions
    spec_sha256 = CharField(64, null=True)  # of spec
    baseline = TextField(null=True)  # the variant the others are compared with; NULL: the first
    batch_job = ForeignKeyField(BatchJob, null=True, on_delete="SET NULL")  # that ran it; NULL: none
    batch_job_id: int | None
    status = TextField(default="created")  # created, running, paused, done, failed, cancelled
    created_at = UtcDateTimeField(default=now)  # when the row was made
    assertions = Json()  # that hold for every case, a list; NULL: none
    repeats = IntegerField(default=1)  # of each case
    judge = TextField(null=True)  # the model that judges, as provider/name; NULL: the default model
    judge_job = ForeignKeyField(BatchJob, null=True, on_delete="SET NULL")  # that asks the judge; NULL: none yet
    judge_job_id: int | None
    cluster = TextField(null=True)  # the variable or metadata by which cases belong together; NULL: they do not
    derived = Json()  # metrics that are formulas over others, a list of {name, value}; NULL: none
    notes = Json()  # what of another tool's file is not honoured, a list of texts; NULL: nothing
    lenient = BooleanField(default=False)  # a variable that a case lacks is empty, as promptfoo has it

    class Meta:
        table_name = "comparison_groups"
        indexes = ((("created_at", "id"), False),)


class ComparisonVariant(Base):
    """One of the things that are compared."""

    group = ForeignKeyField(ComparisonGroup, index=False, on_delete="CASCADE")  # of which test
    group_id: int
    position = IntegerField()  # order in the definition, from 0
    name = TextField()  # unique in its group
    model = TextField(null=True)  # provider/name; NULL: of linked sessions, not known
    prompt = Json()  # a template, a text or a list of messages; NULL: the case is the prompt
    system_prompt = TextField(null=True)  # a template; NULL: none
    parameters = Json()  # request parameters, an object; NULL: none

    class Meta:
        table_name = "comparison_variants"
        indexes = ((("group", "name"), True),)


class ComparisonCase(Base):
    """One thing that every variant is asked."""

    group = ForeignKeyField(ComparisonGroup, index=False, on_delete="CASCADE")  # of which test
    group_id: int
    position = IntegerField()  # order in the definition, from 0
    case_key = TextField()  # hash of what is asked
    variables = Json()  # of the templates, an object; NULL: none
    messages = Json()  # what is asked where the variant has no prompt, a list; NULL: the variant has one
    assertions = Json()  # of its own, a list; NULL: none
    description = TextField(null=True)  # a person's words; NULL: none
    threshold = DoubleField(null=True)  # of the weighted mean, to pass; NULL: every assertion must
    metadata = Json()  # a person's own facts, an object; NULL: none

    class Meta:
        table_name = "comparison_cases"
        indexes = ((("group", "case_key"), True),)


class ComparisonSession(Base):
    """One cell: variant x case x repeat."""

    group = ForeignKeyField(ComparisonGroup, index=False, on_delete="CASCADE")  # of which test
    group_id: int
    session = ForeignKeyField(Session, null=True, on_delete="SET NULL")  # its conversation; NULL: deleted since
    session_id: int | None
    variant = TextField()  # the variant's name
    case_key = TextField()  # hash of the case's content
    repeat = IntegerField(default=0)  # from 0
    item = ForeignKeyField(BatchItem, null=True, on_delete="SET NULL")  # of the batch that asks; NULL: linked
    item_id: int | None
    message = ForeignKeyField(Message, null=True, on_delete="SET NULL")  # the answer; NULL: none yet, or deleted
    message_id: int | None
    score = DoubleField(null=True)  # weighted mean of its scores; NULL: not scored
    passed = BooleanField(null=True)  # all that was to hold does; NULL: not scored, or some could not be run

    class Meta:
        table_name = "comparison_sessions"
        indexes = ((("group", "variant", "case_key", "repeat"), True), (("group", "id"), False))


class ComparisonResult(Base):
    """One score of one cell."""

    comparison_session = ForeignKeyField(ComparisonSession, index=False, on_delete="CASCADE")  # the cell
    comparison_session_id: int
    metric = TextField()  # the figure's name
    scorer = TextField()  # what measured it
    score = DoubleField(null=True)  # most from 0 to 1, more is better; NULL: not measurable
    passed = BooleanField(null=True)  # NULL: no threshold
    reason = TextField(null=True)  # the scorer's words; NULL: none
    error = TextField(null=True)  # why it could not be scored; NULL: it was
    evaluated_at = UtcDateTimeField(default=now)  # when
    position = TextField(default="")  # which assertion of the case, from 0; those of a set as 2.0
    outcome = TextField(default="scored")  # scored, error, not_run
    weight = DoubleField(default=1)  # in the cell's mean; 0: told, not counted

    class Meta:
        table_name = "comparison_results"
        indexes = ((("comparison_session", "metric"), False),)


class ComparisonVote(Base):
    """One pairwise judgement."""

    group = ForeignKeyField(ComparisonGroup, index=False, on_delete="CASCADE")  # of which test
    group_id: int
    case_key = TextField()  # which case
    session_a = ForeignKeyField(Session, null=True, on_delete="SET NULL")  # one answer
    session_a_id: int | None
    session_b = ForeignKeyField(Session, null=True, on_delete="SET NULL")  # the other
    session_b_id: int | None
    shown_first = TextField()  # a, b
    winner = TextField()  # a, b, tie, both_bad
    voter = TextField()  # a person's or a model's name
    voter_kind = TextField()  # human, llm
    swapped_pair = ForeignKeyField("self", null=True, on_delete="SET NULL")  # the same pair in the other order
    swapped_pair_id: int | None
    created_at = UtcDateTimeField(default=now)  # when
    variant_a = TextField(null=True)  # whose answer session_a is; NULL: voted by an older llmsess
    variant_b = TextField(null=True)  # likewise
    repeat = IntegerField(default=0)  # which repeat of the case
    reason = TextField(null=True)  # the voter's words; NULL: none

    class Meta:
        table_name = "comparison_votes"
        indexes = ((("group", "case_key"), False),)


class Workflow(Base):
    """A version of a definition."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    name = TextField()  # from the definition
    version = IntegerField()  # from 1
    definition = TextField()  # verbatim
    sha256 = CharField(64)  # of the definition
    created_at = UtcDateTimeField(default=now)  # when the row was made

    class Meta:
        table_name = "workflows"
        indexes = ((("name", "version"), True),)


class WorkflowExecution(Base):
    """One run of a workflow."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    workflow = ForeignKeyField(Workflow)  # which version
    workflow_id: int
    status = TextField(default="pending")  # pending, running, waiting, done, failed, cancelled
    inputs = Json()  # object
    outputs = Json()  # object; NULL: not finished
    forked_from = ForeignKeyField("self", null=True, on_delete="SET NULL")  # NULL: an original run
    forked_from_id: int | None
    forked_at_step = TextField(null=True)  # the first step run anew; NULL: an original run
    error = TextField(null=True)  # what went wrong, one line; NULL: nothing
    owner = TextField(null=True)  # host/pid/start of the running process; NULL: none
    created_at = UtcDateTimeField(default=now)  # when the row was made
    ended_at = UtcDateTimeField(null=True)  # NULL: not finished

    class Meta:
        table_name = "workflow_executions"


class WorkflowStep(Base):
    """One step's result, or that of one item of a fan-out."""

    execution = ForeignKeyField(WorkflowExecution, index=False, on_delete="CASCADE")  # of which run
    execution_id: int
    step_id = TextField()  # as in the definition
    item_key = TextField(default="")  # of a fan-out; empty: the step itself
    kind = TextField()  # prompt, template, transform, ...
    status = TextField(default="pending")  # pending, running, waiting, done, failed, skipped
    attempt = IntegerField(default=0)  # from 1 once started
    input = Json()  # what it was given
    output = Json()  # what it gave; NULL: nothing yet
    session = ForeignKeyField(Session, null=True, on_delete="SET NULL")  # of a prompt; NULL: none
    session_id: int | None
    batch_job = ForeignKeyField(BatchJob, null=True, on_delete="SET NULL")  # of a fan-out; NULL: none
    batch_job_id: int | None
    error = TextField(null=True)  # what went wrong, one line; NULL: nothing
    started_at = UtcDateTimeField(null=True)  # NULL: not started
    ended_at = UtcDateTimeField(null=True)  # NULL: not finished

    class Meta:
        table_name = "workflow_steps"
        indexes = ((("execution", "step_id", "item_key"), True),)


class PerformanceMetric(Base):
    """A rollup of calls and messages over one bucket of time."""

    bucket_start = UtcDateTimeField()  # start of the bucket
    granularity = TextField()  # hour, day
    model = ForeignKeyField(LanguageModel, null=True, on_delete="CASCADE")  # NULL: unknown model
    model_id: int | None
    project = ForeignKeyField(Project, null=True, on_delete="CASCADE")  # NULL: in no project
    project_id: int | None
    session_type = TextField()  # as Session.session_type
    messages = IntegerField(default=0)  # model messages
    calls = IntegerField(default=0)  # requests sent
    errors = IntegerField(default=0)  # failed messages
    input_tokens = BigIntegerField(default=0)  # sums, as in messages
    cached_input_tokens = BigIntegerField(default=0)
    cache_write_tokens = BigIntegerField(default=0)
    output_tokens = BigIntegerField(default=0)
    reasoning_tokens = BigIntegerField(default=0)
    cost = NanoUsdField(default=0)  # of the priced
    unpriced = IntegerField(default=0)  # model messages without a cost
    latency_histogram = Json()  # {upper bound in ms: count}
    ttft_histogram = Json()  # {upper bound in ms: count}

    class Meta:
        table_name = "performance_metrics"
        indexes = ((("granularity", "bucket_start", "model", "project", "session_type"), True),)


class SessionSnapshot(Base):
    """A tag on a message, with the settings of that moment. Settings are model, system_prompt, temperature, ..."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    session = ForeignKeyField(Session, index=False, on_delete="CASCADE")  # of which session
    session_id: int
    name = TextField(null=True)  # as a person typed it, once in a session; NULL: only a time names it
    snapshot_type = TextField(default="manual")  # manual, checkpoint, auto_save, pre_restore
    head = ForeignKeyField(Message, null=True)  # the tagged message; NULL: the session was empty
    head_id: int | None
    sequence_number = IntegerField()  # the session's next_sequence then
    session_state = Json()  # the settings that are not the session's any more, kept by a trigger; NULL: all still are
    context_window = Json()  # uuids of what the model was sent last, where that is not the path; NULL: it is
    created_at = UtcDateTimeField(default=now)  # when

    class Meta:
        table_name = "session_snapshots"
        indexes = (
            (("session", "created_at"), False),
            (("session", "name"), True),
            (("created_at", "id"), False),
        )


class Annotation(Base):
    """A judgement by a person, a model or a program, on exactly one session or message."""

    uuid = CharField(32, unique=True, default=new_uuid)  # hex, ours
    session = ForeignKeyField(Session, null=True, on_delete="CASCADE")  # NULL: on a message
    session_id: int | None
    message = ForeignKeyField(Message, null=True, on_delete="CASCADE")  # NULL: on a session
    message_id: int | None
    name = TextField()  # rating, label, note, ...
    value_number = DoubleField(null=True)  # NULL: not a number
    value_text = TextField(null=True)  # NULL: not a text
    explanation = TextField(null=True)  # NULL: none
    annotator = TextField()  # who
    annotator_kind = TextField()  # human, llm, code
    identifier = TextField(default="")  # makes a repeated annotation an update
    created_at = UtcDateTimeField(default=now)  # when
    updated_at = UtcDateTimeField(null=True)  # NULL: never changed

    class Meta:
        table_name = "annotations"
        constraints = [Check("(session_id IS NULL) <> (message_id IS NULL)")]  # noqa: RUF012
        indexes = (
            (("session", "name", "annotator", "identifier"), True),
            (("message", "name", "annotator", "identifier"), True),
        )


class ImportSource(Base):
    """A file that was imported."""

    path = TextField()  # absolute, as read
    format = TextField()  # the importer's name
    sha256 = CharField(64, index=True)  # of the bytes read
    size_bytes = BigIntegerField()  # of the file
    mtime = UtcDateTimeField(null=True)  # of the file; NULL: a stream
    imported_at = UtcDateTimeField(default=now)  # when the last import of it ended
    complete = BooleanField(default=False)  # false: the import was cut short

    class Meta:
        table_name = "import_sources"
        indexes = ((("path", "format"), True),)


class ImportRecord(Base):
    """One input record and what became of it."""

    source = ForeignKeyField(ImportSource, index=False, on_delete="CASCADE")  # which file
    source_id: int
    line = IntegerField()  # from 1: the line, or the ordinal of the record
    external_id = TextField(null=True)  # the record's own id; NULL: it has none
    message = ForeignKeyField(Message, null=True, on_delete="SET NULL")  # what it became; NULL: no message
    message_id: int | None
    disposition = TextField()  # imported, merged, duplicate, ignored, bad
    problem = TextField(null=True)  # why it is bad; NULL: it is not
    raw_record = BlobField(null=True)  # the bytes, zlib; NULL: not kept

    class Meta:
        table_name = "import_records"
        indexes = ((("source", "line"), False),)


ImportRecord.add_index(ImportRecord.index(ImportRecord.external_id, where=ImportRecord.external_id.is_null(False)))


class MessageIndex(FTS5Model):
    """The full-text index over whole texts: its content is a view, its upkeep the migration's triggers."""

    content = SearchField()
    reasoning = SearchField()
    tool_text = SearchField()

    class Meta:
        database = database
        table_name = "messages_fts"
        options = {  # noqa: RUF012
            "content": "messages_text",
            "content_rowid": "id",
            "tokenize": "unicode61 remove_diacritics 2",
        }


TABLES: tuple[type[Model], ...] = (
    Project, LanguageModel, ModelAlias, Template, Session, Setting, SessionTag, Message, Text, Blob, MessageBlob, Call,
    BatchJob, BatchShard, BatchItem,
    ComparisonGroup, ComparisonVariant, ComparisonCase, ComparisonSession, ComparisonResult, ComparisonVote,
    Workflow, WorkflowExecution, WorkflowStep,
    PerformanceMetric, SessionSnapshot, Annotation, ImportSource, ImportRecord,
)  # fmt: skip
