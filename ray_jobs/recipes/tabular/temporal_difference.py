"""Recipes of temporal-difference learning."""

from ray_jobs.recipe import Claim, Headline, Recipe, Study, Variant

BOOK = Headline("Sutton & Barto 2018", where="figures 6.2 and 12.6 (curves)")

td_randomwalk = Recipe(
    "TD(0) learns the values of a random walk, two thousand runs at once.",
    Study("temporal_difference:TemporalDifference", steps=100, save_every=100, log_every=1),
    system="TD(lambda)", data="random walk of 5 states", headline=BOOK, claim=Claim("z", at_most=4.0),
    space={"alpha": "loguniform(0.01,0.5)", "lam": "uniform(0,1)"},
    variants={
        "true_online": Variant("random walk of 19 states", None, {
            "env_options": {"states": 19, "left": -1.0}, "initial": 0.0, "lam": 0.8, "alpha": 0.4, "steps": 10, "traces": "dutch",
        }),
    },
    text=(
        "The claim compares the mean squared error of all runs after the last episode with the exact one, by a linear solve: "
        "z standard errors apart; 6 of 100,000 seeds are above 4. --lam and --traces choose TD(lambda) with accumulating, "
        "replacing or dutch traces (true online TD(lambda)); --env takes every environment with a table."
    ),
)  # fmt: skip

nstep_randomwalk = Recipe(
    "n-step TD learns the values of a random walk, two thousand runs at once.",
    Study("n_step:NStepTD", steps=100, save_every=100, log_every=1),
    system="n-step TD", data="random walk of 5 states", headline=Headline("Sutton & Barto 2018", where="figure 7.2 (curves)"),
    claim=Claim("z", at_most=4.0), space={"alpha": "loguniform(0.01,1)", "n": "randint(1,10)"},
    variants={
        "nineteen": Variant("random walk of 19 states", Claim("mean_rms_error", at_most=0.275), {
            "env_options": {"states": 19, "left": -1.0}, "initial": 0.0, "n": 4, "alpha": 0.4, "runs": 500, "steps": 10,
        }),
    },
    text=(
        "The claim compares the mean squared error of all runs after the last episode with the exact one, by a linear solve over the "
        "last n states: z standard errors apart. --env takes every environment with a table."
    ),
)  # fmt: skip

lstd_randomwalk = Recipe(
    "LSTD learns the values of a random walk from a hundred episodes without a step size.",
    Study("least_squares:LSTD", steps=100, save_every=100, log_every=1),
    system="LSTD", data="random walk of 5 states", headline=Headline("Bradtke & Barto 1996"),
    claim=Claim("rms_error", at_most=0.048), space={"lam": "uniform(0,1)"},
    text=(
        "After 100 episodes TD(0) has an error of 0.0599 there; the theory of many episodes gives LSTD 0.0432. --lam 1 averages the "
        "returns of every visit, as Monte Carlo does. --env takes every environment with a table."
    ),
)  # fmt: skip
