"""Recipes of the multi-armed bandit."""

from ray_jobs.recipe import Claim, Headline, Recipe, Study, Variant

AUER = Headline("Auer et al. 2002", where="figures 6 to 11 (curves)")
KAUFMANN = Headline("Kaufmann et al. 2012", where="figure 1 (curves)")
CHAPELLE = Headline("Chapelle & Li 2011", where="figure 1 (curves)")
EXACT = Claim("z", at_most=4.0)
"""Standard errors between the mean regret of 10,000 runs and the exact one; 6 of 100,000 seeds are above 4."""
TEN = "0.9,0.8,0.8,0.8,0.7,0.7,0.7,0.6,0.6,0.6"
"""Arms of distribution 12 of Auer et al. 2002."""


def ten(at_most: float) -> Variant:
    """Ten arms, 10,000 pulls, 1,000 runs, with a claim on the regret."""
    return Variant("ten arms", Claim("regret", at_most=at_most), {"means": TEN, "runs": 1_000, "steps": 100})


def about(more: str) -> str:
    """The text of a recipe."""
    return (
        f"{more} The claim compares the mean regret of two arms with the exact one, which sums over all that can be "
        "seen. --means takes other arms, --deviation makes their rewards Gaussian, --data rewards.csv evaluates the "
        "policy on logged rewards of your own (columns arm and reward)."
    )


bandit_epsilon = Recipe(
    "Epsilon-greedy on two arms, ten thousand runs at once.",
    Study("ray_jobs.bandits.epsilon_greedy:EpsilonGreedy", steps=1, save_every=10, log_every=1),
    system="Epsilon-greedy", data="two arms", headline=AUER, claim=EXACT, space={"epsilon": "uniform(0.01,0.3)"},
    variants={
        "ten": ten(260.0),
        "decay": Variant("ten arms", Claim("regret", at_most=400.0), {
            "means": TEN, "runs": 1_000, "steps": 100, "decay": 0.1, "least_gap": 0.1,
        }),
    },
    text=about("A random arm with a fixed probability, so that the regret grows for ever."), tune_metric="regret", tune_mode="min",
)  # fmt: skip

bandit_ucb1 = Recipe(
    "UCB1 on two arms, ten thousand runs at once.",
    Study("ray_jobs.bandits.ucb1:UCB1", steps=1, save_every=10, log_every=1),
    system="UCB1", data="two arms", headline=AUER, claim=EXACT, variants={"ten": ten(600.0)},
    text=about("The arm with the largest upper confidence bound."), tune_metric="regret", tune_mode="min",
)  # fmt: skip

bandit_bayes_ucb = Recipe(
    "Bayesian UCB on two arms, ten thousand runs at once.",
    Study("ray_jobs.bandits.bayesian_ucb:BayesianUCB", steps=1, save_every=10, log_every=1),
    system="Bayesian UCB", data="two arms", headline=KAUFMANN, claim=EXACT, space={"deviations": "uniform(0.5,4)"},
    variants={
        "deviations": Variant("two arms", EXACT, {"rule": "deviations"}),
        "ten": ten(250.0),
    },
    text=about("The arm with the largest upper quantile of its posterior."), tune_metric="regret", tune_mode="min",
)  # fmt: skip

bandit_thompson = Recipe(
    "Thompson sampling on two arms, ten thousand runs at once.",
    Study("ray_jobs.bandits.thompson:Thompson", steps=1, save_every=10, log_every=1),
    system="Thompson sampling", data="two arms", headline=CHAPELLE, claim=EXACT,
    variants={
        "ten": ten(80.0),
        "gaussian": Variant("ten Gaussian arms", Claim("regret", at_most=1500.0), {
            "means": TEN, "deviation": 1.0, "runs": 1_000, "steps": 100,
        }),
    },
    text=about("Each arm with the probability that it is the best one."), tune_metric="regret", tune_mode="min",
)  # fmt: skip
