"""What a run would send, and about what it costs, before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass

from llmsess import prices
from llmsess.batches.forming import Former
from llmsess.batches.limiting import need
from llmsess.batches.planning import PROBLEMS_SHOWN
from llmsess.batches.viewing import get, stream_items
from llmsess.errors import LlmsessError
from llmsess.models import BatchJob
from llmsess.prices import Usage


@dataclass(frozen=True)
class Estimate:
    """What is to do of a job: items, tokens of input, and of output at most; nano-USD from input alone to all of it.

    `unpriced` names the models without a price, `bad` counts items that make no request, with some `problems`. It is
    `bounded` where no answer can be longer than that.
    """

    items: int
    input_tokens: int
    output_tokens: int
    low: int
    high: int
    unpriced: tuple[str, ...]
    models: tuple[str, ...]
    bad: int
    problems: tuple[str, ...] = ()
    bounded: bool = True


def estimate(job: str | BatchJob) -> Estimate:
    """Return what a run would send, and about what it costs; nothing is sent. Raises NotFound."""
    found = get(job)
    former, sums, count, bad = Former(found, keyless=True), [0, 0, 0, 0], 0, 0
    problems: list[str] = []
    bounded = True
    unpriced: set[str] = set()
    models: set[str] = set()
    for one in stream_items(found, status="todo"):
        try:
            formed = former.form(one.input)
        except LlmsessError as error:
            bad += 1
            problems += [f"item {one.position + 1}: {error}"] if bad <= PROBLEMS_SHOWN else []
            continue
        most = need(formed.way, formed.request)
        low = prices.price(formed.way.model, Usage(most.input_tokens, output_tokens=0)).cost
        models.add(formed.way.model.reference)
        count, bounded = count + 1, bounded and most.bounded
        if most.cost is None:
            unpriced.add(formed.way.model.reference)
        for i, figure in enumerate((most.input_tokens, most.output_tokens, low or 0, most.cost or 0)):
            sums[i] += figure
    given, taken, low_cost, high = sums
    return Estimate(
        count,
        given,
        taken,
        low_cost,
        high,
        tuple(sorted(unpriced)),
        tuple(sorted(models)),
        bad,
        tuple(problems),
        bounded,
    )
