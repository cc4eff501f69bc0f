"""What a reply cost: reported by the provider > set on the model > the price catalogue at that time > unknown, never 0.

The catalogue is genai-prices, offline, in the extra `providers`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import MAX_COST_USD, NANO, LanguageModel, Message, now

QUOTED_TOKENS = 1_000  # of a quote: a long request may cost more a token
BATCH_SHARE = 0.5  # of its price that a provider's own batch service asks (OpenAI and Anthropic, 2026)
MAX_PRICE = 10**12  # nano-USD per thousand tokens, a million USD per million: more is a mistake


class Usage(NamedTuple):
    """The tokens of one reply; None is unknown. Input includes cached and cache-write tokens, output reasoning."""

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None

    def fields(self) -> dict[str, int | None]:
        """Return the columns of a message."""
        return self._asdict()


@dataclass(frozen=True)
class Price:
    """What one reply cost: nano-USD and where the price comes from (provider, model, catalog); None is unknown."""

    cost: int | None
    source: str | None


UNPRICED = Price(None, None)


def price(
    model: LanguageModel | None, usage: Usage, *, at: datetime | None = None, reported_usd: Decimal | None = None,
    share: float = 1,
) -> Price:  # fmt: skip
    """Return the price of a reply: reported > set on the model > catalogue at that time > unknown.

    `share` is the part of a price that is asked, as BATCH_SHARE.
    """
    if reported_usd is not None and 0 <= reported_usd < MAX_COST_USD:
        return Price(int((reported_usd * NANO).to_integral_value()), "provider")
    if model is None or usage.input_tokens is None or usage.output_tokens is None:
        return UNPRICED
    nano, source = _own_price(model, usage), "model"
    if nano is None:
        nano, source = catalogue_price(model.provider, model.model_name, usage, at), "catalog"
    return UNPRICED if nano is None or not 0 <= nano < MAX_COST_USD * NANO else Price(round(nano * share), source)


@dataclass(frozen=True)
class Quote:
    """What a model asks, in USD per million tokens of a short request; None is unknown."""

    input_usd_per_million: Decimal | None
    output_usd_per_million: Decimal | None
    source: str | None


def quote(model: LanguageModel) -> Quote:
    """Return what a model asks now, and who says so."""
    asked = price(model, Usage(QUOTED_TOKENS, output_tokens=0)), price(model, Usage(0, output_tokens=QUOTED_TOKENS))
    per_million = [None if one.cost is None else Decimal(one.cost) * 10**6 / QUOTED_TOKENS / NANO for one in asked]
    given, taken = (None if usd is None else usd.normalize() for usd in per_million)
    return Quote(given, taken, asked[0].source or asked[1].source)


def _own_price(model: LanguageModel, usage: Usage) -> int | None:
    per_input, per_output = model.cost_per_1k_input_tokens, model.cost_per_1k_output_tokens
    if per_input is None or per_output is None:
        return None
    per_cached = model.cost_per_1k_cached_tokens
    cached = usage.cached_input_tokens or 0
    fresh = (usage.input_tokens or 0) - cached
    total = fresh * per_input + cached * (per_input if per_cached is None else per_cached)
    total += (usage.output_tokens or 0) * per_output
    return int((total + 500) // 1000)


@functools.cache
def _catalogue() -> Any:
    try:
        import genai_prices
    except ImportError:  # the extra is optional: without it nothing is known
        return None
    return genai_prices


def has_catalogue() -> bool:
    """Return whether the price catalogue is installed."""
    return _catalogue() is not None


def catalogue_price(provider: str, name: str, usage: Usage, at: datetime | None = None) -> int | None:
    """Return what the price catalogue says in nano-USD, None if it does not know the model or is not installed."""
    cached, written = usage.cached_input_tokens or 0, usage.cache_write_tokens or 0
    fresh = (usage.input_tokens or 0) - cached - written
    rates = _rates(provider, name, (at or now()).astimezone(UTC).date()) if fresh >= 0 else None
    if rates is not None and fresh + cached + written < rates.below_tokens:
        counts = (fresh, cached, written, usage.output_tokens or 0)
        total = sum((count * rate for count, rate in zip(counts, rates.each, strict=True)), Decimal(0))
        return int((total * NANO).to_integral_value())
    if rates is None and not _is_known(provider, name):
        return None
    found = _calculated(provider, name, usage, at)
    return None if found is None else int((found.total_price * NANO).to_integral_value())


@functools.lru_cache(maxsize=4096)
def _is_known(provider: str, name: str) -> bool:
    """Return whether the catalogue knows a model at all; looking for one that it does not takes it a millisecond."""
    return _calculated(provider, name, Usage(0, output_tokens=0)) is not None


class _Rates(NamedTuple):
    """USD for a token of fresh, cached and written input and of output, of requests with less input than that."""

    each: tuple[Decimal, ...]
    below_tokens: float


@functools.lru_cache(maxsize=4096)
def _rates(provider: str, name: str, day: date) -> _Rates | None:
    """Return what a model takes on a day, None where that is no such sum: by request, or by the time of day.

    The catalogue takes a sixth of a millisecond for each reply, which is most of the time of an import.
    """
    at = datetime.combine(day, time(12), UTC)
    found = _calculated(provider, name, Usage(0, output_tokens=0), at)
    asked = {} if found is None else {key: price for key, price in vars(found.model_price).items() if price is not None}
    if not asked or found.total_price:
        return None  # it takes something for the request itself
    dated = found.model.prices if isinstance(found.model.prices, list) else []
    if any(one.constraint is not None and not hasattr(one.constraint, "start_date") for one in dated):
        return None  # it depends on the time of day
    tiers = [tier.start for price in asked.values() for tier in getattr(price, "tiers", ())]
    probe = QUOTED_TOKENS
    usages = (Usage(probe, 0, 0, 0), Usage(probe, probe, 0, 0), Usage(probe, 0, probe, 0), Usage(0, 0, 0, probe))
    each = [_calculated(provider, name, usage, at) for usage in usages]
    if None in each or min(tiers, default=probe + 1) <= probe:
        return None
    return _Rates(tuple(one.total_price / probe for one in each), min(tiers, default=float("inf")))


def _calculated(provider: str, name: str, usage: Usage, at: datetime | None = None) -> Any:
    """Return the catalogue's calculation, with its model, None if it does not know the model or is not installed."""
    catalogue = None if provider in OFFLINE else _catalogue()
    if catalogue is None:
        return None
    tokens = catalogue.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
    )
    known_as = _CATALOGUE_NAMES.get(provider, provider)
    try:
        return catalogue.calc_price(tokens, name, provider_id=known_as, genai_request_timestamp=at)
    except (LookupError, ValueError):  # unknown provider or model, or usage that cannot be
        return None


def catalogue_window(provider: str, name: str) -> int | None:
    """Return how many tokens a model takes, as the catalogue knows it; None where it does not."""
    found = _calculated(provider, name, Usage(0, output_tokens=0))
    return None if found is None else found.model.context_window


def knows(provider: str, name: str) -> bool:
    """Return whether the catalogue has a model of a provider under exactly that name."""
    found = _calculated(provider, name, Usage(0, output_tokens=0))
    return found is not None and found.model.id == name


_UNPRICED_BEFORE = """
    SELECT 1 FROM messages WHERE model_id = ? AND role = 'assistant' AND status = 'complete' AND cost IS NULL
    AND output_tokens IS NOT NULL AND id IS NOT ? LIMIT 1
"""


def first_unpriced(reply: Message) -> bool:
    """Return whether a reply is the first of its model that has tokens and no price, which is worth a word, once."""
    model = reply.model
    if model is None or reply.cost is not None or reply.output_tokens is None or model.provider in OFFLINE:
        return False
    before = (model.id, reply.id)
    return database.execute_sql(_UNPRICED_BEFORE, before).fetchone() is None


OFFLINE = ("echo", "scripted", "copilot")  # no price by the token: not worth loading the catalogue for
_CATALOGUE_NAMES = {"gemini": "google", "xai": "x-ai"}


def parse_usd(text: str) -> Decimal:
    """Return a price in USD; raises InvalidInput for what is none."""
    try:
        value = Decimal(text.strip().lstrip("$"))
    except InvalidOperation as error:
        raise InvalidInput(f'"{text}" is no price in USD') from error
    if not value.is_finite() or not 0 <= value <= MAX_PRICE:
        raise InvalidInput(f'"{text}" is no price in USD')
    return value
