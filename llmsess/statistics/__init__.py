"""Statistics of comparisons, in pure Python: intervals, paired tests, ratings; seeded where they draw.

`distributions` (normal, t, binomial), `intervals` (of rates, means, differences), `paired` (tests of paired answers),
`repeats` (pass@k), `ratings` (Bradley-Terry, agreement). Every function takes plain numbers and returns plain numbers
or small tuples; what cannot be computed is None or an InvalidInput, never NaN.
"""

from llmsess.statistics.distributions import binomial_cdf, normal_quantile, t_quantile, t_two_sided
from llmsess.statistics.intervals import (
    CONFIDENCE,
    Interval,
    bootstrap,
    clustered_error,
    detectable,
    mean,
    mean_interval,
    needed,
    paired_rates,
    quantile,
    score_interval,
    standard_deviation,
    standard_error,
    wilson,
)
from llmsess.statistics.paired import (
    SEED,
    Test,
    benjamini_hochberg,
    holm,
    mcnemar,
    mcnemar_chi_square,
    mcnemar_mid_p,
    paired_t,
    permutation,
    sign,
    wilcoxon,
)
from llmsess.statistics.ratings import (
    Ratings,
    bradley_terry,
    cohen_kappa,
    connected,
    elo,
    krippendorff_alpha,
    wins_of,
)
from llmsess.statistics.repeats import pass_all, pass_at

__all__ = [
    "CONFIDENCE", "SEED", "Interval", "Ratings", "Test", "benjamini_hochberg", "binomial_cdf", "bootstrap",
    "bradley_terry", "clustered_error", "cohen_kappa", "connected", "detectable", "elo", "holm", "krippendorff_alpha",
    "mcnemar", "mcnemar_chi_square", "mcnemar_mid_p", "mean", "mean_interval", "needed", "normal_quantile",
    "paired_rates", "paired_t", "pass_all", "pass_at", "permutation", "quantile", "score_interval", "sign",
    "standard_deviation", "standard_error", "t_quantile", "t_two_sided", "wilcoxon", "wilson", "wins_of",
]  # fmt: skip
