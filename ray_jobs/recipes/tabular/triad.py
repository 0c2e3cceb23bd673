"""Recipes of the deadly triad."""

from ray_jobs.recipe import Claim, Headline, Recipe, Study, Variant

BOOK = Headline("Sutton & Barto 2018", where="chapter 11, figures 11.2, 11.5 and 11.6 (curves)")
EXACT = Claim("z", at_most=4.5)
"""Standard errors between the mean of any weight and its exact mean: at most 6 seeds of 100,000 are above 4.5 for eight weights."""
WHERE = "Baird's counterexample"
DRAWN = {"walk": False, "expected": True, "steps": 100}

triad_baird = Recipe(
    "The deadly triad: semi-gradient TD(0) diverges on Baird's counterexample, as fast as linear algebra says.",
    Study("ray_jobs.tabular.approximation.triad:Triad", steps=20, save_every=10, log_every=1),
    system="Deadly triad", data=WHERE, headline=BOOK, claim=EXACT,
    variants={
        "table": Variant(WHERE, EXACT, {"features": "table"}),
        "on_policy": Variant(WHERE, Claim("value_error", at_most=1.0), {"policy": "on", "steps": 500}),
        "monte_carlo": Variant(WHERE, EXACT, {"method": "monte_carlo"}),
        "tdc": Variant(WHERE, Claim("projected_error", at_most=0.0075), DRAWN | {"method": "tdc", "alpha": 0.005}),
        "emphatic": Variant(WHERE, Claim("value_error", at_most=1e-3), DRAWN | {"method": "emphatic", "alpha": 1e-4, "block": 1_000}),
        "residual": Variant(WHERE, EXACT, {"method": "residual"}),
        "slow_target": Variant(WHERE, Claim("value_error", at_most=0.1), DRAWN | {
            "method": "slow_target", "alpha": 0.1, "refresh": 1_000, "block": 10_000,
        }),
        "two_states": Variant("Tsitsiklis and Van Roy's two states", EXACT, {"example": "two_states", "walk": False}),
    },
    text=(
        "Seven states, eight weights, no rewards: all values are 0. The claim compares each weight's mean over 20,000 runs of 200 "
        "updates with its exact mean. The variants take one part of the triad away, or cure it. cells.png shows which cells diverge."
    ),
    tune_metric="value_error", tune_mode="min", space={"alpha": "loguniform(0.001,0.1)"},
)  # fmt: skip
