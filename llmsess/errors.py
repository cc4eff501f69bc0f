"""Every error that llmsess raises on purpose.

    LlmsessError                    exit 1
    ├── Conflict                    1  a name is taken, a state forbids it
    ├── MissingExtra                1  an optional dependency is not installed
    ├── Unrecognised                1  a file of no known format
    ├── InvalidInput                2  a value or reference that cannot mean anything
    │   ├── Ambiguous               2  a reference that means several things
    │   └── ContextTooLong          2  more than the model takes
    ├── NotFound                    3
    ├── ProviderError               4  the provider or the network
    │   └── MissingKey              4  no API key in the environment
    ├── DatabaseProblem             5
    │   ├── DatabaseLocked  DatabaseCorrupt  DatabaseNewer  DatabaseForeign
    │   ├── DatabaseReadOnly  DatabaseFull
    │   ├── DamagedConversation     5  messages were changed or deleted outside llmsess
    │   └── UnsavedReply  LostReply 5  the reply came, the database could not take it
    └── SomeFailed                  6  finished, but with failures
        └── UnusableReply           6  the reply is stored, but is not what was asked for

Facts are attributes; the text is built from them: the thing, the trouble, the next step, in one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the end of an error's text, naming the known name that is most like an unknown one; "" if none is."""
    import difflib  # only where something went wrong

    near = difflib.get_close_matches(name, list(known), 1, cutoff)
    return _guess(near[0] if near else None)


def _guess(near: str | None) -> str:
    return f'; did you mean "{near}"?' if near else ""


class LlmsessError(Exception):
    """The base of all our errors; `kind`, `hint`, `retryable` and `exit_code` describe it to programs."""

    kind = "error"
    exit_code = 1
    retryable = False
    hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message.encode(errors="backslashreplace").decode()  # a file's name may be no text
        super().__init__(self.message)
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def as_dict(self) -> dict[str, Any]:
        """Return the error as the JSON object that `--json` prints on stderr."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint, "retryable": self.retryable}


class Conflict(LlmsessError):
    kind = "conflict"


class MissingExtra(LlmsessError):
    kind = "missing_extra"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", hint=f"pip install 'llmsess[{extra}]'")
        self.package, self.extra = package, extra


class Unrecognised(LlmsessError):
    kind = "unrecognised"
    hint = "llmsess import --formats"


class InvalidInput(LlmsessError):
    kind = "invalid_input"
    exit_code = 2


class Ambiguous(InvalidInput):
    kind = "ambiguous"

    def __init__(self, thing: str, reference: str, candidates: list[str], hint: str) -> None:
        super().__init__(f'{thing} "{reference}" is ambiguous: {", ".join(candidates)}', hint=hint)
        self.reference, self.candidates = reference, candidates


class ContextTooLong(InvalidInput):
    """`tokens`, exact or about, are more than the `window` of the model; `fitting` earlier messages would fit."""

    kind = "context_length"

    def __init__(self, model: str, tokens: int, window: int, *, exact: bool, fitting: int | None) -> None:
        about = "" if exact else "about "
        ways = "a shorter prompt" if fitting is None else f"--context last:{fitting}"
        super().__init__(
            f"the conversation has {about}{tokens:,} tokens, {model} takes {window:,}",
            hint=f"{ways}; --context all sends it anyway",
        )
        self.model, self.tokens, self.window, self.exact, self.fitting = model, tokens, window, exact, fitting


def listed_by(thing: str) -> str:
    """Return the command that finds a thing."""
    ways = {"message": "llmsess search TEXT", "comparison": "llmsess compare list"}
    return ways.get(thing, f"llmsess {thing} list")


class NotFound(LlmsessError):
    kind = "not_found"
    exit_code = 3

    def __init__(self, thing: str, reference: str, *, near: str | None = None, hint: str | None = None) -> None:
        super().__init__(f'no {thing} "{reference}"{_guess(near)}', hint=hint or listed_by(thing))
        self.thing, self.reference = thing, reference


class ProviderError(LlmsessError):
    """A request that a provider did not answer well.

    `error_kind` is one of auth, bad_request, not_found, rate_limit, quota, overloaded, server, timeout, connection,
    truncated, bad_response, context_length; `http_status` and `retry_after_s` are None where the provider sent
    none; `billed` is whether the provider may have charged for the request.
    """

    kind = "provider"
    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        error_kind: str,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        billed: bool = False,
        request_id: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.error_kind, self.http_status, self.retry_after_s = error_kind, http_status, retry_after_s
        self.billed, self.request_id = billed, request_id
        self.retryable = error_kind in ("rate_limit", "overloaded", "server", "timeout", "connection", "truncated")

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"error_kind": self.error_kind, "http_status": self.http_status}


class MissingKey(ProviderError):
    kind = "missing_key"

    def __init__(self, model: str, variable: str) -> None:
        super().__init__(
            f"{model} needs an API key", error_kind="auth", hint=f"set the environment variable {variable}"
        )
        self.variable = variable


class DatabaseProblem(LlmsessError):
    """Trouble with the database file. Not "DatabaseError": peewee wraps whatever derives from that name as its own."""

    kind = "database"
    exit_code = 5


class DatabaseLocked(DatabaseProblem):
    kind = "database_locked"
    retryable = True


class DatabaseCorrupt(DatabaseProblem):
    kind = "database_corrupt"
    hint = "llmsess db check says more; copies lie in the folder backups beside it"


class DamagedConversation(DatabaseCorrupt):
    """A conversation that cannot be read whole, since its rows were changed or deleted outside llmsess."""

    kind = "damaged_conversation"
    hint = "llmsess show prints what is readable, snapshot restore --session SESSION goes back to what is whole"


class DatabaseNewer(DatabaseProblem):
    kind = "database_newer"
    hint = "upgrade llmsess: pip install -U llmsess"


class DatabaseForeign(DatabaseProblem):
    kind = "database_foreign"
    hint = "choose another file with --db"


class DatabaseReadOnly(DatabaseProblem):
    kind = "database_read_only"
    hint = "check the permissions of the file and its folder"


class DatabaseFull(DatabaseProblem):
    kind = "database_full"
    hint = "free some space and try again"


class UnsavedReply(DatabaseProblem):
    """The reply arrived and was paid for, but the database could not store it: it lies in the file `path`."""

    kind = "unsaved_reply"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"the reply could not be stored ({reason}); it is kept in {path}",
            hint=f"when the database can take it: llmsess session recover {path}",
        )
        self.path = path


class LostReply(DatabaseProblem):
    """The reply arrived, and neither the database nor any folder could take it: `content` is all that is left of it."""

    kind = "lost_reply"

    def __init__(self, reason: str, content: str) -> None:
        super().__init__(f"the reply could be stored nowhere: {reason}", hint="copy it from the output")
        self.content = content


class SomeFailed(LlmsessError):
    kind = "some_failed"
    exit_code = 6


class UnusableReply(SomeFailed):
    """The reply came, but is not what was asked for: `problem` says why, `content` is what it says.

    `session` is the uuid of the session that keeps it, None where none does.
    """

    kind = "unusable_reply"

    def __init__(self, problem: str, content: str, session: str | None = None) -> None:
        super().__init__(f"the reply {problem}", hint=f"it is kept: llmsess show {session[:8]}" if session else None)
        self.problem, self.content, self.session = problem, content, session
