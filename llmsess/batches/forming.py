"""What a row means as a request: a prompt, a template's variables, messages, or a line of a provider's batch file.

A line of a batch file goes to a server of the same API as it stands, keys that llmsess does not know included, and to
any other by what it says: messages, system prompt, limits, schema. Precedence is the row, the job, the template, the
model; the model alone is the job's where that names one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmsess import attachments, contexts, request_parameters, routing, templates
from llmsess.batches.inputs import ATTACHED
from llmsess.errors import InvalidInput
from llmsess.importers.anthropic_chat import system_text
from llmsess.importers.openai_chat import ROLES, blocks_of, openai_model
from llmsess.importers.reading import reference
from llmsess.models import BatchJob, LanguageModel, dump_json
from llmsess.providers import Request, Turn
from llmsess.routing import Options, Route
from llmsess.rows import get_row
from llmsess.templates import Template
from llmsess.writing import ATTACHED as ATTACHMENTS

CHAT_URLS = ("/v1/chat/completions", "/chat/completions", None)  # of OpenAI's batch lines; others are no conversations
_HOW = ("model", "messages", "stream", "stream_options")  # keys of a body that llmsess says itself
MAX_KEY_CHARACTERS = 500
LIMITS = ("max_completion_tokens", "max_tokens")
REPEAT = "_repeat"  # the key of a row under which a comparison says which repeat it is
COLUMNS = ("temperature", "max_tokens")  # parameters that a row has a place of its own for
Said = tuple[str, str | list[Any]]  # a role, and a text or blocks


def kind(row: Mapping[str, Any]) -> str:
    """Return what a row is: openai or anthropic (a line of a batch file), messages, or prompt."""
    if isinstance(row.get("body"), dict) and "messages" in row["body"]:
        return "openai"
    if isinstance(row.get("params"), dict) and "messages" in row["params"]:
        return "anthropic"
    return "messages" if "messages" in row else "prompt"


def key_of(row: Mapping[str, Any], column: str | None) -> str | None:
    """Return the key that a row names: its custom_id, or the value of a column; None where it names none.

    Raises InvalidInput for a key that cannot be.
    """
    value = row.get(column or "custom_id")
    if value is None and column is None:
        return None
    key = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not key.strip() or len(key) > MAX_KEY_CHARACTERS:
        raise InvalidInput(f"the row has no usable {column or 'custom_id'}")
    return key


def content_key(row: Mapping[str, Any]) -> str:
    """Return the key of a row that names none: the hash of what it says."""
    said = {name: value for name, value in row.items() if name != ATTACHED}  # a folder may move
    return hashlib.sha256(dump_json(said).encode()).hexdigest()[:32]


def model_of(row: Mapping[str, Any], *, templated: bool) -> str | None:
    """Return the reference of the model that a row names itself, None where it names none."""
    match kind(row):
        case "openai":
            return openai_model(_text(row["body"].get("model")))
        case "anthropic":
            return reference("anthropic", _text(row["params"].get("model")))
    return None if templated else _text(row.get("model"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


# Checks, before anything is planned


def check(row: Mapping[str, Any], template: Template | None) -> None:
    """Raise InvalidInput where a row is no request."""
    match kind(row):
        case "openai":
            _check_body(row["body"])
            if row.get("url") not in CHAT_URLS:
                raise InvalidInput(f"{row['url']} is no conversation: only chat completions can be sent")
        case "anthropic":
            _check_body(row["params"])
        case "messages":
            _check_messages(row["messages"])
            _own(row)
        case _ if "body" in row and "custom_id" in row:
            raise InvalidInput("the body has no list of messages")
        case _ if template is not None:
            _check_variables(row, template)
        case _:
            if not isinstance(row.get("prompt", ""), (str, type(None))):
                raise InvalidInput(f"a prompt is a text, not {type(row['prompt']).__name__}")
            if not _text(row.get("prompt")) and not row.get(ATTACHED):
                hint = "-t '... {{ column }} ...' makes one of its columns"
                raise InvalidInput('the row has no "prompt"', hint=hint)
            _own(row)


def _check_body(body: Mapping[str, Any]) -> None:
    _check_messages(body["messages"])
    if body.get("n") not in (None, 1):
        raise InvalidInput(f"n must be 1, not {body['n']}: an item has one answer")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("messages must be a list that is not empty")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise InvalidInput("each message is an object with a role: system, developer, user, assistant or tool")
        called = message["role"] == "assistant" and (message.get("tool_calls") or message.get("function_call"))
        if not isinstance(message.get("content"), (str, list)) and not called:
            raise InvalidInput("the content of a message is a text or a list of blocks")


def _check_variables(row: Mapping[str, Any], template: Template) -> None:
    known = row.keys() | template.defaults.keys() | {"input"}
    missing = [name for name in template.variables() if name not in known]
    if missing:
        have = ", ".join(list(row)[:10])
        raise InvalidInput(f"the template needs {', '.join(missing)}, the row has {have or 'nothing'}")


def _own(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row says itself of how it is sent: fields of chat.Options; raises InvalidInput."""
    told = {name: row[name] for name in ("system", *COLUMNS) if row.get(name) not in (None, "")}
    if not isinstance(told.get("system", ""), str):
        raise InvalidInput("system is a text")
    numbers = (_number(told.get(name)) for name in COLUMNS)
    if not isinstance(row.get("parameters", {}), (Mapping, type(None))):
        raise InvalidInput("parameters is an object")
    given = request_parameters.given(row.get("parameters"), *numbers)
    how = {"temperature": given.temperature, "max_tokens": given.max_tokens, "parameters": given.others}
    return {name: value for name, value in ({"system": told.get("system")} | how).items() if value is not None}


def _number(value: Any) -> Any:
    """Return a number that a CSV has as a text."""
    if isinstance(value, str):
        try:
            return float(value) if "." in value else int(value)
        except ValueError:
            return value
    return value


# Requests


@dataclass(frozen=True)
class Formed:
    """A row as a request: where it goes, and what is stored as said before the answer."""

    way: Route
    request: Request
    said: list[Said]
    repeat: int = 0  # of a request that is wanted several times

    def sha256(self) -> str:
        """Return what the ledger and the cache know the request by: the first of several is as one alone."""
        asked = self.request.sha256()
        return asked if not self.repeat else hashlib.sha256(f"{asked}#{self.repeat}".encode()).hexdigest()


class Former:
    """Makes the rows of one job requests; models are looked up once. A keyless one's are not to be sent."""

    def __init__(self, job: BatchJob, *, keyless: bool = False) -> None:
        self.job, self.keyless = job, keyless
        self.template = templates.parse(job.template) if job.template else None
        self.model = get_row(LanguageModel, job.model_id) if job.model_id else None
        self.routes: dict[str | None, Route] = {}
        self.bases: dict[int, Request] = {}

    def form(self, row: Mapping[str, Any]) -> Formed:
        """Return the request of a row; raises InvalidInput, NotFound, MissingKey, ContextTooLong."""
        match kind(row):
            case "openai":
                formed = self._body(row, row["body"], "openai")
            case "anthropic":
                formed = self._body(row, row["params"], "anthropic")
            case "messages":
                formed = self._said(row, row["messages"], _own(row))
            case _:
                formed = self._prompt(row)
        formed.way.provider.check(formed.request)
        contexts.check(formed.way.model, formed.way.provider, formed.request, None)
        return replace(formed, repeat=row[REPEAT]) if isinstance(row.get(REPEAT), int) else formed

    def route(self, row: Mapping[str, Any]) -> Route:
        """Return where a row goes."""
        own = None if self.model else model_of(row, templated=self.template is not None)
        if own not in self.routes:
            chosen: Any = self.model or own or (self.template and self.template.model)
            chosen = chosen or routing.choose_model(None, Options())
            self.routes[own] = routing.route(chosen, keyed=not self.keyless)
        return self.routes[own]

    @staticmethod
    def body(formed: Formed) -> dict[str, Any]:
        """Return a request as its provider's API wants it."""
        provider: Any = formed.way.provider
        found: dict[str, Any] = provider.body(formed.request)
        return found

    def blank(self, model: str | None) -> Formed:
        """Return a request of which only the model is known, if at all, for an answer whose question is not."""
        if model is None and self.model is None:  # it is NULL then, and not guessed
            nobody: Any = None
            return Formed(Route(LanguageModel(provider="", model_name=""), nobody, None), Request("", []), [])
        way = self.route({"model": model})
        return Formed(way, Request(way.model.model_name, []), [])

    def _options(self, **own: Any) -> Options:
        """Return how an item is sent: its own word, else the job's, else the template's."""
        job = self.job
        template = dict(self.template.options) if self.template else {}
        parameters = template | (job.parameters or {}) | dict(own.pop("parameters", None) or {})
        system = own.pop("system", None) or job.system_prompt
        schema = own.pop("schema", None) or job.answer_schema or (self.template.schema if self.template else None)
        return Options(system=system, schema=schema, parameters=parameters, stream=False, **own)

    def _prompt(self, row: Mapping[str, Any]) -> Formed:
        """Return the request of a prompt, or of a template filled with a row."""
        paths = list(row.get(ATTACHED) or ())
        if self.template is None:
            return self._asked(row, str(row.get("prompt") or ""), paths, _own(row))
        wanted = self.template.variables()
        values = {name: row[name] for name in wanted if name in row and row[name] is not None}
        given = str(row.get("input") or row.get("prompt") or "") if not wanted or "input" in wanted else ""
        values.pop("input", None)
        filled = templates.fill(self.template, given, values)
        system = None if self.job.system_prompt else filled.options.get("system")
        own = {"system": system} if system else {}
        paths += [path for path, _ in self.template.attachments]
        return self._asked(row, filled.prompt, paths, own)

    def _asked(self, row: Mapping[str, Any], prompt: str, paths: list[str], own: dict[str, Any]) -> Formed:
        blocks = [attachments.load(path).block() for path in (*(self.job.attachments or ()), *paths)]
        if not prompt.strip() and not blocks:
            raise InvalidInput("there is no prompt")
        said = [{"type": "text", "text": prompt}] if prompt.strip() else []
        content: str | list[Any] = [*said, *blocks] if blocks else prompt
        return self._formed(row, [("user", content)], own)

    def _said(self, row: Mapping[str, Any], messages: list[Any], own: dict[str, Any]) -> Formed:
        known = {name: row[name] for name in request_parameters.KNOWN if name in row and name not in COLUMNS}
        parameters = known | dict(own.get("parameters") or {})
        own |= {"parameters": parameters} if parameters else {}
        formed = self._formed(row, [_message(message) for message in messages], own)
        request, roles = formed.request, {message["role"] for message in messages}
        asis = {"openai": set(ROLES), "anthropic": {"user", "assistant"}}.get(formed.way.provider.dialect or "", set())
        if not roles <= asis:
            return formed
        if request.system and formed.way.provider.dialect == "openai":
            messages = [{"role": "system", "content": request.system}, *messages]
        return replace(formed, request=replace(request, parameters=dict(request.parameters) | {"messages": messages}))

    def _body(self, row: Mapping[str, Any], body: Mapping[str, Any], dialect: str) -> Formed:
        """Return the request of a line of a batch file: as it stands where the server speaks its language."""
        way, job = self.route(row), self.job
        messages = list(body["messages"])
        system = system_text(body.get("system")) if dialect == "anthropic" else None
        if system is None and not any(message["role"] in ("system", "developer") for message in messages):
            system = job.system_prompt
        others = dict(way.model.parameters or {}) | (job.parameters or {})
        if any(name in body for name in LIMITS):
            others = {name: value for name, value in others.items() if name not in LIMITS}
        elif way.provider.name == "openai" and "max_tokens" in others:  # as its newer models want it
            others["max_completion_tokens"] = others.pop("max_tokens")
        others |= {name: value for name, value in body.items() if name not in (*_HOW, "system")}
        if way.provider.dialect == dialect:
            verbatim: dict[str, Any] = {"messages": messages}
            if dialect == "openai" and system:
                verbatim["messages"] = [{"role": "system", "content": system}, *messages]
            if dialect == "anthropic" and (body.get("system") or system):
                verbatim["system"] = body.get("system") or system
            own: dict[str, Any] = {"parameters": others | verbatim}
        else:
            own = _translated(others, way.provider.dialect)
        schema = None if {"response_format", "output_config"} & others.keys() else job.answer_schema
        said = [_message(message) for message in messages]
        fields: dict[str, Any] = {"schema": schema} | own
        request = Request(
            way.model.model_name, [_turn(*one) for one in said], system=system, stream=False,
            base_url=way.model.base_url, api_key=way.api_key, **fields,
        )  # fmt: skip
        return Formed(way, request, said)

    def _formed(self, row: Mapping[str, Any], said: list[Said], own: dict[str, Any]) -> Formed:
        way = self.route(row)
        request = self._base(way) if not own else routing.request_for(way, None, self._options(**own))
        return Formed(way, replace(request, turns=[_turn(*one) for one in said]), said)

    def _base(self, way: Route) -> Request:
        """Return the request of a row that says nothing of how it is sent, made once for each model."""
        if way.model.id not in self.bases:
            self.bases[way.model.id] = routing.request_for(way, None, self._options())
        return self.bases[way.model.id]


def _message(message: Mapping[str, Any]) -> Said:
    """Return a message of a request as it is stored."""
    content = message.get("content")
    plain = isinstance(content, str) and not any(message.get(key) for key in ("tool_calls", "function_call"))
    role = ROLES[message["role"]]
    if plain and role != "tool":
        return role, str(content)
    return role, blocks_of(dict(message)) or ""


def _turn(role: str, content: str | list[Any]) -> Turn:
    """Return what is stored as it is sent."""
    if isinstance(content, str):
        return Turn(role, content)
    texts = [block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"]
    attached = any(isinstance(block, dict) and block.get("type") in ATTACHMENTS for block in content)
    return Turn(role, "\n\n".join(filter(None, texts)), content if attached else None)


def _translated(others: dict[str, Any], dialect: str | None) -> dict[str, Any]:
    """Return a body's own settings as fields of a Request, for a server of another API; what that lacks is left out."""
    fields: dict[str, Any] = {"temperature": others.get("temperature")}
    fields["max_tokens"] = next((others[name] for name in LIMITS if others.get(name) is not None), None)
    asked = others.get("response_format")
    if isinstance(asked, dict) and isinstance(asked.get("json_schema"), dict):
        fields["schema"] = asked["json_schema"].get("schema")
    kept = {name: value for name, value in others.items() if name in ("top_p", "script")}
    stop = others.get("stop", others.get("stop_sequences"))
    if stop:
        words = [stop] if isinstance(stop, str) else stop
        kept |= {"stop_sequences": words} if dialect == "anthropic" else {"stop": words}
    return {name: value for name, value in fields.items() if value is not None} | {"parameters": kept}
