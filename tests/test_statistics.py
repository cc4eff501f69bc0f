"""Statistics against published vectors, against scipy and statsmodels, by properties, and by simulation."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsess import statistics as ours
from llmsess.comparisons import verdicts
from llmsess.errors import InvalidInput
from tests.conftest import FUZZ

D = [0.2, -0.1, 0.4, 0, 0.3, 0.5, -0.2, 0.1, 0.25, 0.35]
CLOSE = 1e-6
SIMULATIONS = 200 if FUZZ == 1 else 2_000
scores = st.floats(-1, 1, allow_nan=False).map(lambda one: round(one, 3))


def near(value: Any) -> Any:
    return pytest.approx(value, abs=CLOSE)


# The vectors


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(17, 20, 0.639581, 0.947631), (5, 5, 0.565518, 1), (0, 10, 0, 0.277533), (850, 1000, 0.826531, 0.870790)],
)
def test_wilson(successes: int, trials: int, low: float, high: float) -> None:
    assert ours.wilson(successes, trials) == near((low, high))


def test_the_mean_of_differences() -> None:
    assert ours.standard_error(D) == near(0.071570)
    assert ours.mean_interval(D) == near((0.018098, 0.341902))
    found = ours.paired_t(D)
    assert (found.p, found.interval) == (near(0.033037), near((0.018098, 0.341902)))


def test_clusters() -> None:
    values, pairs = [1, 1, 0, 0, 1, 0, 1, 1], [0, 0, 1, 1, 2, 2, 3, 3]
    assert ours.clustered_error(values, pairs) == near(0.239357)
    assert ours.clustered_error(values, pairs) * math.sqrt(3 / 4) == near(0.207289)
    assert ours.standard_error(values) == near(0.182981)
    assert ours.clustered_error(values, [1] * 8) == 0


@pytest.mark.parametrize(
    ("gained", "lost", "exact", "mid"),
    [(10, 2, 0.038574, 0.022461), (1, 9, 0.021484, 0.011719), (25, 10, 0.016674, 0.011331)],
)
def test_mcnemar(gained: int, lost: int, exact: float, mid: float) -> None:
    assert (ours.mcnemar(gained, lost), ours.mcnemar_mid_p(gained, lost)) == (near(exact), near(mid))
    assert ours.mcnemar(lost, gained) == ours.mcnemar(gained, lost)


def test_mid_p_falls_with_the_difference() -> None:
    assert [ours.mcnemar_mid_p(n, 6 - n) for n in (0, 3, 6)] == pytest.approx([1 / 64, 1, 1 / 64])
    assert ours.mcnemar_mid_p(0, 0) == ours.mcnemar_mid_p(1, 1) == 1


def test_mcnemar_for_many_pairs() -> None:
    assert ours.mcnemar_chi_square(10, 2) == near((4.083333, 0.043308))
    assert ours.mcnemar_chi_square(25, 10)[1] == near(0.017960)
    assert ours.mcnemar_chi_square(0, 0) == (0, 1)


def test_wilcoxon() -> None:
    assert ours.wilcoxon(D) == near((5, 0.043640))  # it has ties
    assert ours.wilcoxon(D, exact=True) == near((5, 0.0390625))
    assert ours.wilcoxon([0, 0]) == (0, 1)


def test_sign() -> None:
    assert (ours.sign(9, 0), ours.sign(7, 2), ours.sign(0, 0)) == (near(0.00390625), near(0.179688), 1)


def test_several_tests() -> None:
    ps = [0.01, 0.04, 0.03, 0.005]
    assert ours.holm(ps) == near([0.03, 0.06, 0.06, 0.02])
    assert ours.benjamini_hochberg(ps) == near([0.02, 0.04, 0.04, 0.02])
    assert (ours.holm([]), ours.holm([0.7])) == ([], [0.7])


def test_bradley_terry() -> None:
    found = ours.bradley_terry([[0, 7, 8], [3, 0, 6], [2, 4, 0]])
    assert found.strengths == pytest.approx([2.09713, 0.861481, 0.553514], abs=CLOSE)
    assert found.ratings == pytest.approx([1128.650, 974.098, 897.252], abs=1e-3)


@pytest.mark.parametrize(
    "wins", [[[0, 5], [0, 0]], [[0, 1, 0], [1, 0, 0], [0, 0, 0]], [[0]], [[0, 1, 1], [1, 0, 1], [0, 0, 0]]]
)
def test_bradley_terry_is_not_had_where_the_wins_do_not_hold_together(wins: list[list[float]]) -> None:
    found = ours.bradley_terry(wins)
    assert (found.connected, found.ratings, set(found.intervals)) == (False, [], {None})


def test_agreement() -> None:
    first, second = [int(one) for one in "1101001101"], [int(one) for one in "1001011101"]
    assert ours.cohen_kappa(first, second) == near(0.583333)
    assert ours.cohen_kappa([1, 1], [1, 1]) is None
    assert ours.krippendorff_alpha(zip("aabbc", "aabbc", strict=True)) == 1
    assert ours.krippendorff_alpha([["a"], ["b"]]) is None
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section B: two observers, binary
    one, two = "0100000010", "1110010000"
    assert ours.krippendorff_alpha(zip(one, two, strict=True)) == pytest.approx(0.095, abs=5e-4)


def test_repeats() -> None:
    assert (ours.pass_at(5, 10, 3), ours.pass_all(4, 10, 9)) == (near(0.916667), near(0.6))
    assert (ours.pass_at(1, 4, 0), ours.pass_all(4, 4, 4)) == (0, 1)
    with pytest.raises(InvalidInput, match="k = 5 of 4"):
        ours.pass_at(5, 4, 1)


def test_power() -> None:
    assert ours.needed(0.4, 0.03) == 1396
    assert ours.detectable(0.4, 1396) == pytest.approx(0.03, abs=1e-4)


def test_elo_depends_on_the_order() -> None:
    games = [(0, 1, 1.0), (0, 1, 0.0)]
    assert ours.elo(games, 2)[0] == pytest.approx(1000 - 4 * (1 / (1 + 10 ** (-4 / 400)) - 0.5))
    assert ours.elo(games, 2) != ours.elo(games[::-1], 2)


# Others' implementations


@given(st.lists(scores, min_size=3, max_size=40))
def test_tests_agree_with_scipy(values: list[float]) -> None:
    scipy = pytest.importorskip("scipy.stats")
    if ours.standard_deviation(values) > 1e-6:
        theirs = scipy.ttest_1samp(values, 0)
        found = ours.paired_t(values)
        assert found.p == pytest.approx(float(theirs.pvalue), abs=1e-8)
        assert found.interval == pytest.approx(tuple(map(float, theirs.confidence_interval())), abs=1e-8)
    kept = [one for one in values if one]
    if len(set(map(abs, kept))) == len(kept) > 0:
        theirs = scipy.wilcoxon(kept, method="exact" if len(kept) <= 25 else "approx", correction=True)
    elif len(kept) > 1:
        theirs = scipy.wilcoxon(kept, method="approx", correction=True)
    else:
        return
    if not math.isnan(float(theirs.pvalue)):
        assert ours.wilcoxon(values) == pytest.approx((float(theirs.statistic), float(theirs.pvalue)), abs=1e-8)


def test_statsmodels_agrees() -> None:
    """One test for all of it: it takes seconds to import."""
    numpy, api = pytest.importorskip("numpy"), pytest.importorskip("statsmodels.api")
    from statsmodels.stats import contingency_tables, multitest, proportion

    chance = random.Random(5)
    for _ in range(20 * FUZZ):
        gained, lost = chance.randrange(40), chance.randrange(1, 40)
        exact = contingency_tables.mcnemar([[5, gained], [lost, 5]], exact=True).pvalue
        assert ours.mcnemar(gained, lost) == ours.sign(gained, lost) == pytest.approx(float(exact), abs=1e-9)
        theirs = proportion.proportion_confint(gained, gained + lost, method="wilson")
        assert ours.wilson(gained, gained + lost) == pytest.approx(tuple(map(float, theirs)), abs=1e-9)
        ps = [chance.random() ** 3 for _ in range(chance.randrange(1, 12))]
        for name, adjusted in (("holm", ours.holm), ("fdr_bh", ours.benjamini_hochberg)):
            found = list(map(float, multitest.multipletests(ps, method=name)[1]))
            assert adjusted(ps) == pytest.approx(found, abs=1e-12)
    values, clusters = [chance.random() for _ in range(60)], [chance.randrange(12) for _ in range(60)]
    fitted = api.OLS(numpy.array(values), numpy.ones(60)).fit(
        cov_type="cluster", cov_kwds={"groups": numpy.array(clusters), "use_correction": False}
    )
    count = len(set(clusters))
    error = float(fitted.bse[0]) * math.sqrt(count / (count - 1))
    assert ours.clustered_error(values, clusters) == pytest.approx(error)


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 29, 200, 5_000])
def test_quantiles_agree_with_scipy(degrees: int) -> None:
    scipy = pytest.importorskip("scipy.stats")
    for share in (0.6, 0.9, 0.975, 0.9999):
        assert ours.t_quantile(share, degrees) == pytest.approx(float(scipy.t.ppf(share, degrees)), rel=1e-9)
        assert ours.normal_quantile(share) == pytest.approx(float(scipy.norm.ppf(share)), rel=1e-9)
    for count in (10, 1_500):
        assert ours.binomial_cdf(count // 2 - 3, count) == pytest.approx(
            float(scipy.binom.cdf(count // 2 - 3, count, 0.5)), rel=1e-9
        )


# Properties


@given(st.lists(scores, min_size=1, max_size=9))
def test_the_permutation_test_is_the_enumeration_of_signs(values: list[float]) -> None:
    total = abs(math.fsum(values))
    as_far = [
        abs(math.fsum(sign * value for sign, value in zip(signs, values, strict=True))) >= total - 1e-9
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    assert ours.permutation(values).p == pytest.approx(sum(as_far) / len(as_far))


def test_drawn_permutations_come_near_the_enumeration_and_are_seeded() -> None:
    from llmsess.statistics import paired

    values = [0.1 * one for one in D] + [0.3, -0.1, 0.2]
    exact, drawn = ours.permutation(values), paired.permutation([*values, 0.0, 0.0])
    assert exact.name == "permutation (exact)" and drawn.name == "permutation (10,000 draws)"
    assert drawn.p == pytest.approx(exact.p, abs=0.01)
    assert ours.permutation([*values, 0.0, 0.0]) == drawn


@given(st.lists(scores, min_size=2, max_size=30))
def test_an_interval_of_permutations_leaves_0_out_where_the_test_finds_a_difference(values: list[float]) -> None:
    found = ours.permutation(values)
    if found.interval is not None and found.p < 0.045:
        assert found.interval.low > 0 or found.interval.high < 0
    if found.interval is not None and found.p > 0.055:
        assert found.interval.low <= 1e-12 and found.interval.high >= -1e-12


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 100))
def test_tangos_interval_inverts_its_score_and_agrees_with_mcnemar(gained: int, lost: int, ties: int) -> None:
    pairs = gained + lost + ties
    if not pairs:
        return
    low, high = ours.paired_rates(gained, lost, pairs)
    assert -1 <= low <= (gained - lost) / pairs <= high <= 1
    turned = ours.paired_rates(lost, gained, pairs)
    assert (low, high) == pytest.approx((-turned[1], -turned[0]), abs=1e-9)
    if ours.mcnemar(gained, lost) < 0.05:
        assert low > 0 or high < 0


def test_tangos_interval_has_the_constrained_likelihoods_rates() -> None:
    """The rate under a difference is that which the likelihood has most of, found by a search."""
    gained, lost, pairs = 9, 3, 40
    low, _ = ours.paired_rates(gained, lost, pairs)
    rates = [one / 200_000 for one in range(1, 100_000)]  # of pairs that only the first has right

    def likelihood(rate: float) -> float:
        rest = 1 - 2 * rate - low
        if rate + low <= 0 or rest <= 0:
            return -math.inf
        return gained * math.log(rate + low) + lost * math.log(rate) + (pairs - gained - lost) * math.log(rest)

    best = max(rates, key=likelihood)
    z = (gained - lost - pairs * low) / math.sqrt(pairs * (2 * best + low * (1 - low)))
    assert z == pytest.approx(1.959964, abs=1e-3)


@given(st.lists(scores, min_size=1, max_size=20), st.integers(0, 5))
def test_a_bootstrap_is_seeded_and_within_what_was_seen(values: list[float], seed: int) -> None:
    found = ours.bootstrap(values, ours.mean, seed=seed, draws=200)
    assert found == ours.bootstrap(values, ours.mean, seed=seed, draws=200)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=30))
def test_intervals_of_scores_stay_within_what_scores_can_be(values: list[float]) -> None:
    found = ours.score_interval(values)
    if found is not None:
        assert 0 <= found.low <= ours.mean(values) + 1e-9 and ours.mean(values) - 1e-9 <= found.high <= 1
    assert found is not None or len(values) == 1


@given(st.lists(st.lists(st.integers(1, 9), min_size=3, max_size=3), min_size=3, max_size=3))
def test_ratings_meet_the_likelihood_equations(wins: list[list[int]]) -> None:
    for i in range(3):
        wins[i][i] = 0
    found = ours.bradley_terry([[float(one) for one in row] for row in wins])
    for i in range(3):
        expected = sum(
            (wins[i][j] + wins[j][i]) * found.strengths[i] / (found.strengths[i] + found.strengths[j])
            for j in range(3) if j != i
        )  # fmt: skip
        assert sum(wins[i]) == pytest.approx(expected, rel=1e-6)
    assert math.prod(found.strengths) == pytest.approx(1)


def test_intervals_of_ratings_cover_the_truth() -> None:
    chance, truth, covered = random.Random(11), [0.5, 0.0, -0.5], 0
    for _ in range(SIMULATIONS):
        wins = [[0.0] * 3 for _ in range(3)]
        for i, j in itertools.combinations(range(3), 2):
            for _ in range(60):
                first = chance.random() < 1 / (1 + math.exp(truth[j] - truth[i]))
                wins[i if first else j][j if first else i] += 1
        found = ours.bradley_terry(wins)
        interval = found.intervals[0]
        assert interval is not None
        covered += interval.low <= 1000 + 400 / math.log(10) * truth[0] <= interval.high
    assert 0.90 <= covered / SIMULATIONS <= 0.99


# The level: where there is no difference, one in twenty is found at most


def binary(chance: random.Random, count: int) -> dict[str, tuple[float, float]]:
    return {
        str(n): (float(chance.random() < easy), float(chance.random() < easy))
        for n in range(count) for easy in [chance.random()]
    }  # fmt: skip


def graded(chance: random.Random, count: int) -> dict[str, tuple[float, float]]:
    return {str(n): (chance.betavariate(2, 1), chance.betavariate(2, 1)) for n in range(count)}


def repeated(chance: random.Random, count: int) -> dict[str, tuple[float, float]]:
    def mean(easy: float) -> float:
        return sum(chance.random() < easy for _ in range(3)) / 3

    return {str(n): (mean(easy), mean(easy)) for n in range(count) for easy in [chance.random()]}


@pytest.mark.parametrize("draw", [binary, graded, repeated])
@pytest.mark.parametrize("count", [8, 40])
def test_null_comparisons_keep_their_level(draw: Any, count: int) -> None:
    chance, found, covered = random.Random(count), 0, 0
    for _ in range(SIMULATIONS):
        pairs = draw(chance, count)
        one = verdicts.compare("m", "a", "b", pairs)
        found += one.verdict in ("better", "worse")
        assert one.low is not None and one.high is not None
        covered += one.low <= 0 <= one.high
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / SIMULATIONS)
    assert found / SIMULATIONS <= allowed
    assert covered / SIMULATIONS >= 1 - allowed


def test_null_comparisons_of_several_variants_keep_their_level_together() -> None:
    chance, alarms = random.Random(3), 0
    for _ in range(SIMULATIONS):
        base = {str(n): chance.random() for n in range(12)}
        found = [
            verdicts.compare("m", "a", name, {key: (one, chance.random()) for key, one in base.items()}, contrasts=4)
            for name in "bcde"
        ]
        alarms += any(one.verdict in ("better", "worse") for one in verdicts.adjusted(found))
    assert alarms / SIMULATIONS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / SIMULATIONS)


def clustered(chance: random.Random, groups: int) -> tuple[dict[str, tuple[float, float]], dict[str, int]]:
    pairs, clusters = {}, {}
    for group in range(groups):
        shift = chance.gauss(0, 0.3)  # what the answers to one text have in common
        for n in range(4):
            pairs[f"{group}/{n}"] = (0.5, 0.5 + shift + chance.gauss(0, 0.05))
            clusters[f"{group}/{n}"] = group
    return pairs, clusters


@pytest.mark.parametrize("groups", [2, 7, 20])
def test_null_comparisons_of_clusters_keep_their_level(groups: int) -> None:
    chance, alarms = random.Random(8), 0
    for _ in range(SIMULATIONS):
        pairs, clusters = clustered(chance, groups)
        alarms += verdicts.compare("m", "a", "b", pairs, clusters=clusters).verdict in ("better", "worse")
    assert alarms / SIMULATIONS <= (0 if groups == 2 else 0.05 + 3 * math.sqrt(0.05 * 0.95 / SIMULATIONS))


def test_clusters_that_say_the_same_are_no_proof() -> None:
    pairs = {str(n): (0.0, float(n % 4 == 0)) for n in range(8)}
    found = verdicts.compare("m", "a", "b", pairs, clusters={str(n): n // 4 for n in range(8)})
    assert (found.verdict, found.p, found.n) == ("not_enough", 0.5, 8)
    assert "too few clusters to tell, at least 6" in found.sentence
    one = verdicts.compare("m", "a", "b", pairs, clusters=dict.fromkeys(pairs, 1))
    assert (one.verdict, one.p, one.low) == ("not_enough", None, None)


def test_the_least_difference_is_detected_8_times_of_10() -> None:
    chance = random.Random(9)
    for count in (6, 8, 14, 40):
        known = verdicts.compare("m", "a", "b", {str(n): (0.0, chance.gauss(0, 0.1)) for n in range(count)})
        values = [known.detectable] if known.detectable else []
        spread = ours.standard_deviation([1.0, 2.0])  # any: it scales
        least = verdicts._detectable(spread, count, 1)
        found = sum(
            ours.permutation([chance.gauss(least, spread) for _ in range(count)], draws=500).p < 0.05
            for _ in range(SIMULATIONS)
        )
        assert values and 0.7 <= found / SIMULATIONS <= 0.9, (count, found)


def test_intervals_of_ratings_cover_the_truth_where_votes_on_one_case_are_alike() -> None:
    chance, covered = random.Random(10), 0
    for _ in range(SIMULATIONS):
        games = [[(0, 1, float(chance.random() < 0.5))] for _ in range(20)]
        found = ours.bradley_terry(ours.wins_of([game for group in games for game in group], 2), games)
        repeated = [group * 10 for group in games]
        alike = ours.bradley_terry(ours.wins_of([game for group in repeated for game in group], 2), repeated)
        if found.connected and found.intervals[0] is not None and alike.intervals[0] is not None:
            assert alike.intervals[0].high - alike.intervals[0].low == pytest.approx(
                found.intervals[0].high - found.intervals[0].low
            )
            covered += found.intervals[0].low <= 1000 <= found.intervals[0].high
    assert covered / SIMULATIONS >= 0.88
    ties = [[(0, 1, 0.5)]] * 50
    assert ours.bradley_terry(ours.wins_of([game for group in ties for game in group], 2), ties).intervals == [
        None,
        None,
    ]


def test_null_votes_keep_their_level() -> None:
    chance, alarms = random.Random(4), 0
    for _ in range(SIMULATIONS):
        found = verdicts.preferred("votes", "a", "b", [chance.choice((-1, 0, 1)) for _ in range(30)])
        alarms += found.verdict in ("better", "worse")
    assert alarms / SIMULATIONS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / SIMULATIONS)


def test_a_real_difference_is_found() -> None:
    chance, found = random.Random(6), 0
    for _ in range(100):
        pairs = {str(n): (float(chance.random() < 0.5), float(chance.random() < 0.8)) for n in range(80)}
        found += verdicts.compare("m", "a", "b", pairs).verdict == "better"
    assert found > 90
