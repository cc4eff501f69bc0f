"""What repeats of a case say: the chance that one of k tries passes, and that all of k do. Both unbiased."""

from __future__ import annotations

import math

from llmsess.errors import InvalidInput


def pass_at(k: int, tries: int, passed: int) -> float:
    """Return the chance that at least one of k tries passes (pass@k; Chen and others 2021, arXiv 2107.03374)."""
    _check(k, tries, passed)
    return 1 - math.comb(tries - passed, k) / math.comb(tries, k)


def pass_all(k: int, tries: int, passed: int) -> float:
    """Return the chance that each of k tries passes (pass^k)."""
    _check(k, tries, passed)
    return math.comb(passed, k) / math.comb(tries, k)


def _check(k: int, tries: int, passed: int) -> None:
    if not 1 <= k <= tries or not 0 <= passed <= tries:
        raise InvalidInput(f"k = {k} of {tries} tries, {passed} passed: k is from 1 to the number of tries")
