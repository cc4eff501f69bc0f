"""promptfoo's prompts and providers as variants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llmsess import definitions, request_parameters
from llmsess.comparisons.files import inside, read_text
from llmsess.comparisons.specs import Prompt, Variant
from llmsess.errors import InvalidInput
from llmsess.models import dump_json
from llmsess.texts import one_line

PROGRAMS = (".js", ".mjs", ".cjs", ".ts", ".py", ".rb", ".sh", ".exe")
_NO_MODELS = ("exec", "python", "file", "http", "https", "webhook", "websocket", "browser", "package", "golang",
              "vertex", "localai", "ruby", "mcp", "sequence", "simulated-user")  # fmt: skip
_KINDS = ("chat", "completion", "responses", "messages")  # words between a provider and its model
_NO_KINDS = re.compile(
    r"embeddings?|image|video|speech|audio|transcription|assistant|realtime|moderation|live|agents?|"
    r"text-generation|text-classification|(claude|codex|agents?)-.*sdk"
)  # of a provider: no conversations
_PROVIDERS = {"google": "gemini", "togetherai": "together"}
_NOT_SENT = ("apiKey", "apiKeyEnvar", "apiKeyRequired")  # whose place is the environment
_BREAK = re.compile(r"^---[ \t]*\r?$", re.MULTILINE)


class Source(NamedTuple):
    """A prompt and the names that it has."""

    label: str
    prompt: Prompt
    names: tuple[str, ...]


# Prompts


def prompts_of(given: Any, base: Path, notes: list[str]) -> Iterator[Source]:
    """Yield the prompts of a configuration, several of one file included."""
    if isinstance(given, Mapping):  # path: label
        given = [{"id": f"file://{path}", "label": label} for path, label in given.items()]
    for one in [given] if isinstance(given, str) else given:
        if isinstance(one, Mapping):
            label, raw = one.get("label"), one.get("raw") or one.get("id") or one.get("prompt")
        else:
            label, raw = None, one
        if not isinstance(raw, str):
            raise InvalidInput("a prompt is a text, a file:// or a mapping with id or raw")
        found = list(_of_text(raw, base, notes))
        for number, prompt in enumerate(found, 1):
            title = str(label) if label else one_line(_said(prompt), 40)
            several = f" {number}" if label and len(found) > 1 else ""
            if "_conversation" in str(prompt):
                notes.append(
                    f"the prompt {title} goes on with a conversation, which is not made: each test is asked alone"
                )
            yield Source(f"{title}{several}", prompt, tuple(filter(None, (label, raw))))


def _said(prompt: Prompt) -> str:
    if isinstance(prompt, list):
        return " ".join(str(message.get("content", "")) for message in prompt if isinstance(message, Mapping))
    return prompt if isinstance(prompt, str) else dump_json(prompt)


def _of_text(raw: str, base: Path, notes: list[str]) -> Iterator[Prompt]:
    name = raw.removeprefix("file://")
    is_file = raw.startswith("file://") or (_looks_like_file(raw) and any(matching(name, base)))
    if raw.startswith("exec:") or (is_file and name.partition(":")[0].endswith(PROGRAMS)):
        notes.append(f"the prompt {one_line(raw, 60)} is a program, which is not run")
        return
    if not is_file:
        yield _structured(raw)
        return
    paths = matching(name, base)
    if not paths:
        raise InvalidInput(f"there is no prompt {one_line(name, 80)}")
    for path in paths:
        yield from _of_file(path, notes)


def _looks_like_file(raw: str) -> bool:
    return "\n" not in raw and "{{" not in raw and len(raw) < 500 and bool(re.search(r"\.\w{1,5}$|[*]", raw))


def matching(name: str, base: Path) -> list[Path]:
    """Return the files of a path or a pattern."""
    if any(sign in name for sign in "*?["):
        path = Path(name)
        root, pattern = (Path(path.anchor), str(path.relative_to(path.anchor))) if path.is_absolute() else (base, name)
        found = sorted(one for one in root.glob(pattern.removeprefix("./")) if one.is_file())
    else:
        found = [base / name] if (base / name).is_file() else []
    return [inside(str(one.absolute()), base) for one in found]


def _of_file(path: Path, notes: list[str]) -> Iterator[Prompt]:
    if path.suffix in PROGRAMS:
        notes.append(f"the prompt {path.name} is a program, which is not run")
        return
    text = read_text(path)
    if path.suffix == ".csv":
        yield from _of_csv(text)
    elif path.suffix in (".json", ".yaml", ".yml", ".md"):
        yield _structured(text)
    elif path.suffix == ".jsonl":
        yield from (_structured(line) for line in text.splitlines() if line.strip())
    else:
        yield from (_structured(part.strip("\r\n")) for part in _BREAK.split(text) if part.strip())


def _of_csv(text: str) -> Iterator[Prompt]:
    import csv
    import io

    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row and row[0].strip()]
    skip = rows and rows[0][0].strip().lower() == "prompt"
    yield from (_structured(row[0]) for row in rows[1 if skip else 0 :])


def _structured(text: str) -> Prompt:
    """Return a prompt's messages, or its JSON, whose texts alone are filled, where the text is such; else the text."""
    start = text.lstrip()[:1]
    if start not in ("[", "-", "{") or text.lstrip().startswith(("{{", "{%", "{#")):
        return text
    try:
        found = definitions.load(_quoted_dumps(text), "the prompt")
    except InvalidInput:
        return text
    talk = isinstance(found, list) and found and all(isinstance(one, dict) and "role" in one for one in found)
    return found if talk or (start == "{" and isinstance(found, dict)) else text


def _quoted_dumps(text: str) -> str:
    """Return a JSON text in which `{{ name | dump }}`, which makes a JSON text, is the text itself."""
    return re.sub(r"(?<!\")\{\{\s*([\w.\[\]]+)\s*\|\s*(?:dump|tojson)\s*\}\}(?!\")", r'"{{ \1 }}"', text)


# Providers


def variants_of(
    value: Mapping[str, Any], models: list[str] | None, prompts: list[Source], base: Path, notes: list[str]
) -> Iterator[Variant]:  # fmt: skip
    """Yield a variant for each provider and each of its prompts; `models` are in the place of the providers."""
    given = value.get("providers", value.get("targets")) if models is None else models
    if not given:
        raise InvalidInput("the configuration names no providers", hint="-m MODEL names some")
    if not prompts:
        raise InvalidInput("none of its prompts can be read", hint="; ".join(notes[:3]) or None)
    providers = list(_providers(given, base, notes))
    labels = [label for label, *_ in providers]
    for number, (label, model, parameters, wanted) in enumerate(providers):
        shown = f"{label} #{labels[: number + 1].count(label)}" if labels.count(label) > 1 else label
        ours = [source for source in prompts if not wanted or set(source.names) & set(wanted) or source.label in wanted]
        seen: list[str] = []
        for source in ours:
            again = f" #{seen.count(source.label) + 1}" if source.label in seen else ""
            seen.append(source.label)
            name = f"{shown} · {source.label}{again}" if len(ours) > 1 else shown
            yield Variant(one_line(name, 200), model, source.prompt, None, parameters)


def _providers(given: Any, base: Path, notes: list[str]) -> Iterator[tuple[str, str, dict[str, Any], list[str]]]:
    """Yield the label, the model, the parameters and the prompts of each provider."""
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, str) and one.startswith("file://") and one.endswith((".yaml", ".yml", ".json")):
            yield from _providers(definitions.load(read_text(inside(one, base)), one), base, notes)
            continue
        if isinstance(one, Mapping) and "id" not in one and len(one) == 1:
            ((name, rest),) = one.items()
            one = {**(rest if isinstance(rest, Mapping) else {}), "id": name}
        fields: Any = {"id": one} if isinstance(one, str) else one
        if not isinstance(fields, Mapping) or not isinstance(fields.get("id"), str):
            raise InvalidInput("a provider is a text, or a mapping with an id")
        if fields.get("transform"):
            raise InvalidInput(f"the provider {fields['id']} changes answers by code of another language")
        notes += [f'"{name}" of {fields["id"]} is not honoured' for name in fields.keys() - _PROVIDER_KEYS]
        label = str(fields.get("label") or fields["id"])
        wanted = fields.get("prompts") or []
        parameters = _parameters(fields.get("config") or {}, fields["id"], notes)
        yield label, model_of(fields["id"]), parameters, [wanted] if isinstance(wanted, str) else list(wanted)


def model_of(provider: str) -> str:
    """Return the reference of the model that promptfoo calls so: openai:chat:gpt-5; raises InvalidInput."""
    name, _, rest = provider.partition(":")
    if name == "echo":
        return "echo/echo"
    kind, _, model = rest.partition(":")
    none = (kind in _KINDS and rest.endswith(":")) or _NO_KINDS.fullmatch(kind if name != "ollama" or model else "")
    if name in _NO_MODELS or (not rest and "/" not in provider) or none or rest in _KINDS:
        raise InvalidInput(
            f'the provider "{one_line(provider, 60)}" is no model that llmsess can call', hint="-m MODEL runs others"
        )
    if not rest:
        return provider
    ours = _PROVIDERS.get(name, name)
    return f"{ours}/{model if kind in _KINDS and model else rest}"


_PROVIDER_KEYS = {"id", "label", "config", "prompts", "transform"}


def _parameters(config: Mapping[str, Any], provider: str, notes: list[str]) -> dict[str, Any]:
    """Return the parameters of a provider's configuration that a server is sent; others are noted."""
    own = {name: item for name, item in config.items() if name in request_parameters.KNOWN and name != "n"}
    own = {name: item for name, item in own.items() if not isinstance(item, str) or "://" not in item}
    for name in config.keys() - own.keys() - {*_NOT_SENT}:
        notes.append(f'"{name}" of {provider} is not sent (llmsess model add {model_of(provider)} sets a server)')
    return request_parameters.checked(own) or {}


def judge_of(provider: Any) -> str | None:
    """Return the model that judges."""
    if isinstance(provider, Mapping):
        provider = provider.get("id") or provider.get("text")
        if isinstance(provider, Mapping):
            provider = provider.get("id")
    return model_of(provider) if isinstance(provider, str) else None
