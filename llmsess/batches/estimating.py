"""What a run would send, and about what it costs, before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass

from llmsess import prices
from llmsess.batches.forming import Former
from llmsess.batches.limiting import need
from llmsess.batches.viewing import get, stream_items
from llmsess.errors import LlmsessError
from llmsess.models import BatchJob
from llmsess.prices import Usage


@dataclass(frozen=True)
class Estimate:
    """What is to do of a job: items, tokens of input, and of output at most; nano-USD from input alone to all of it.

    `unpriced` names the models without a price, `bad` counts items that make no request.
    """

    items: int
    input_tokens: int
    output_tokens: int
    low: int
    high: int
    unpriced: tuple[str, ...]
    models: tuple[str, ...]
    bad: int


def estimate(job: str | BatchJob) -> Estimate:
    """Return what a run would send, and about what it costs; nothing is sent. Raises NotFound."""
    found = get(job)
    former, sums, count, bad = Former(found), [0, 0, 0, 0], 0, 0
    unpriced: set[str] = set()
    models: set[str] = set()
    for one in stream_items(found, status="todo"):
        try:
            formed = former.form(one.input)
        except LlmsessError:
            bad += 1
            continue
        most = need(formed.way, formed.request)
        low = prices.price(formed.way.model, Usage(most.input_tokens, output_tokens=0)).cost
        models.add(formed.way.model.reference)
        count += 1
        if most.cost is None:
            unpriced.add(formed.way.model.reference)
        for i, figure in enumerate((most.input_tokens, most.output_tokens, low or 0, most.cost or 0)):
            sums[i] += figure
    given, taken, low_cost, high = sums
    return Estimate(count, given, taken, low_cost, high, tuple(sorted(unpriced)), tuple(sorted(models)), bad)
