"""Comparisons: A/B tests of models and prompts, stored, scored, judged, with an honest answer.

    report = comparisons.run({"name": "capitals", "models": ["openai/a", "anthropic/b"],
        "prompt": "The capital of {{ country }}?", "cases": [{"country": "France", "expected": "Paris"}],
        "scorers": [{"type": "icontains", "value": "{{ expected }}"}]})
    for verdict in comparisons.summary(report.group).verdicts: print(verdict.sentence)

A comparison is a grid: variants x cases x repeats, each a cell, asked by a batch (so it resumes, keeps to a budget,
and pays once). The parts: `specs`, `cases` and `promptfoo` (definitions), `planning` and `running`, `linking`
(sessions that exist), `scoring`, `judging` (votes), `viewing`, `verdicts` and `answering` (what it says), `gates`,
`reports` and `page` (out again).
"""

from __future__ import annotations

from llmsess import batches, listing
from llmsess import scorers as registry
from llmsess.comparisons import scheduling
from llmsess.comparisons.answering import Summary, summary
from llmsess.comparisons.gates import Gate, check
from llmsess.comparisons.judging import Judged, Pair, cast, judge, pairs, to_vote, undo, votes
from llmsess.comparisons.linking import Linked, add
from llmsess.comparisons.reports import FORMATS, export
from llmsess.comparisons.running import RunReport, ask, job_of, plan, put_back, run, settle
from llmsess.comparisons.scoring import Scored, score
from llmsess.comparisons.verdicts import Verdict
from llmsess.comparisons.viewing import Cell, case_of, cases_of, count, find, get, stream_cells, title_of, variants_of
from llmsess.db import database
from llmsess.errors import Conflict
from llmsess.listing import SessionFilter
from llmsess.models import ComparisonGroup
from llmsess.scorers import Judge, Scorer

__all__ = [
    "FORMATS", "Cell", "Gate", "Judged", "Linked", "Pair", "RunReport", "Scored", "Summary", "Verdict", "add", "ask",
    "case_of", "cases_of", "cast", "check", "count", "delete", "export", "find", "get", "job_of", "judge", "of_filter",
    "pairs", "plan", "put_back", "run", "score", "scorers", "settle", "stream_cells", "summary", "title_of", "to_vote",
    "undo", "variants_of", "votes",
]  # fmt: skip


def scorers() -> list[tuple[str, Scorer | Judge]]:
    """Return the scorers there are, by name."""
    return registry.find()


def of_filter(filter: SessionFilter) -> list[str]:
    """Return the uuids of the sessions that a filter lets through, the oldest first."""
    return [str(row["uuid"]) for row in listing.find(filter, limit=None)][::-1]


def delete(comparison: str | ComparisonGroup) -> int:
    """Delete a comparison with its scores, votes and batches, and return its cells; the sessions with answers stay.

    Raises NotFound, Conflict while it runs.
    """
    group = get(comparison)
    with database.atomic():
        jobs = [batches.get(f'"{name}"') for name in scheduling.job_names(group)]
        for job in jobs:
            if batches.status(job).counts["sent"] + batches.status(job).counts["claimed"]:
                raise Conflict(f'the comparison "{group.name}" is running', hint=f"llmsess batch cancel {job.name}")
        (cells,) = database.execute_sql(
            "SELECT count(*) FROM comparison_sessions WHERE group_id = ?", (group.id,)
        ).fetchone()
        group.delete_instance()
        for job in jobs:
            batches.delete(job)
    return int(cells)
