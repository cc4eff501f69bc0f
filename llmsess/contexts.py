"""What of a conversation is sent with a prompt, how long it is, and whether the model takes that much.

Lengths are tokens: exact where the provider counts them here, else about four bytes of UTF-8 each, as English text and
code have on average. A conversation is refused only where it is surely too long; the server has the last word.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmsess import prices
from llmsess.errors import ContextTooLong, InvalidInput
from llmsess.models import LanguageModel
from llmsess.providers import Provider, Request, Turn
from llmsess.writing import context_ids, context_to

BYTES_PER_TOKEN = 4
SURELY = 1.25  # an estimate must be longer than the window by so much: plain prose has five bytes a token
SMALLEST_WINDOW = 2_000  # tokens: what is shorter is not worth a look into the catalogue
ATTACHMENT_TOKENS = 1_000  # about what an image counts
_LAST = re.compile(r"last:(\d{1,9})")


def last(choice: str | None) -> int | None:
    """Return how many messages before the prompt are sent, None for all; raises InvalidInput for no such choice."""
    if choice is None or choice == "all":
        return None
    found = _LAST.fullmatch(choice) if isinstance(choice, str) else None
    if found is None:
        raise InvalidInput(f'"{choice}" is no choice of context', hint='"all" or "last:N", as last:10')
    return int(found[1])


def turns_to(message_id: int, choice: str | None = None) -> list[Turn]:
    """Return what of the path to a message, its prompt, is sent: all, or with last:N so many messages before it."""
    turns = [Turn(*said) for said in context_to(message_id)]
    return [*kept(turns[:-1], choice), *turns[-1:]]


def seen(prompt_id: int, choice: str) -> list[str]:
    """Return the uuids of the messages that were sent with a choice of last:N, the prompt the last of them."""
    count = last(choice)
    assert count is not None
    *before, (_, prompt) = context_ids(prompt_id, count + 1)
    return [uuid for _, uuid in itertools.dropwhile(lambda said: said[0] == "assistant", before)] + [prompt]


def kept(turns: list[Turn], choice: str | None) -> list[Turn]:
    """Return what is kept of a conversation before the next prompt.

    One that is cut begins with what a person said, as servers want it.
    """
    count = last(choice)
    if count is None or count >= len(turns):
        return turns
    return list(itertools.dropwhile(lambda turn: turn.role == "assistant", turns[len(turns) - count :]))


@dataclass(frozen=True)
class Length:
    """How many tokens a request has, whether that is exact, and the model's window (None: unknown)."""

    tokens: int
    exact: bool
    window: int | None

    @property
    def fits(self) -> bool:
        """Return whether the model takes it, as far as is known."""
        return self.window is None or self.tokens <= self.window * (1 if self.exact else SURELY)


def length(model: LanguageModel, provider: Provider, request: Request, *, look_up: bool = False) -> Length:
    """Return how long a request is; the catalogue is asked for the window where it may matter, or with `look_up`."""
    counted = provider.count_tokens(request)
    tokens = estimate(request.system, request.turns) if counted is None else counted
    window: int | None = model.context_window
    if window is None and (look_up or tokens > SMALLEST_WINDOW):
        window = prices.catalogue_window(model.provider, model.model_name)
    return Length(tokens, counted is not None, window)


def estimate(system: str | None, turns: Sequence[Turn]) -> int:
    """Return about how many tokens texts and attachments are."""
    size = len((system or "").encode()) + sum(len(turn.content.encode()) for turn in turns)
    attached: int = sum(block.get("type") != "text" for turn in turns for block in turn.blocks or ())
    return -(-size // BYTES_PER_TOKEN) + attached * ATTACHMENT_TOKENS


def check(model: LanguageModel, provider: Provider, request: Request, choice: str | None) -> None:
    """Raise ContextTooLong where a request is longer than the model's window; a choice of all is taken at its word."""
    if choice == "all" or (model.context_window is None and model.provider in prices.OFFLINE):
        return
    found = length(model, provider, request)
    if not found.fits:
        assert found.window is not None
        raise ContextTooLong(
            model.reference, found.tokens, found.window, exact=found.exact, fitting=_fitting(request, found)
        )


def _fitting(request: Request, found: Length) -> int | None:
    """Return how many messages before the prompt would fit, None where the prompt alone is too long."""
    assert found.window is not None
    scale = found.tokens / max(1, estimate(request.system, request.turns))
    budget = found.window - estimate(request.system, request.turns[-1:]) * scale
    if budget < 0:
        return None
    fitting = 0
    for turn in reversed(request.turns[:-1]):
        budget -= estimate(None, [turn]) * scale
        if budget < 0:
            break
        fitting += 1
    return fitting
