"""Recipes of Monte Carlo methods."""

from ray_jobs.recipe import Claim, Headline, Recipe, Study, Variant

BLACKJACK = "ray_jobs.tabular.examples.blackjack:blackjack"
EXACT = Claim("z", at_most=4.0)
"""Standard errors between a mean over runs and its exact value; 6 of 100,000 seeds are above 4."""


def about(more: str) -> str:
    """The text of a recipe."""
    return f"{more} --env takes every environment with a table whose episodes end, a file of arrays, or a function of your own."


mc_prediction = Recipe(
    "First-visit Monte Carlo learns the value of a state that loops, and every-visit has exactly the known bias.",
    Study("monte_carlo:MonteCarlo", steps=20, save_every=20, log_every=1, runs=10_000),
    system="Monte Carlo prediction", data="one state that loops", headline=Headline("Sutton & Barto 2018", where="section 5.1"),
    claim=EXACT, space={"gamma": "uniform(0.5,1)"},
    variants={"every": Variant("one state that loops", EXACT, {"visits": "every", "steps": 5})},
    text=about(
        "The claim compares the mean error of all runs with the exact one: 0 for first visits; for every visit -1/(n + 1) of the "
        "value after n episodes."
    ),
)  # fmt: skip

mc_off_policy = Recipe(
    "Importance sampling estimates a hand of blackjack from games in which coins decide.",
    Study("monte_carlo:MonteCarlo", steps=1_000, save_every=500, log_every=10, env=BLACKJACK,
          env_options={"total": 13, "ace": True, "dealer": 2}, policy="ray_jobs.tabular.examples.blackjack:stick_on_20",
          behaviour="uniform", runs=1_000),
    system="Monte Carlo prediction", data="Blackjack", headline=Headline("Sutton & Barto 2018", where="figure 5.3 (curves)"),
    claim=EXACT, space={"gamma": "uniform(0.5,1)"},
    variants={"weighted": Variant("Blackjack", Claim("start_error", at_most=0.105), {"weights": "weighted"})},
    text=about(
        "The hand is an ace and a two against a two; the policy sticks on 20 and 21, and the hand is worth exactly -0.2772. Ordinary "
        "importance sampling has no bias; weighted importance sampling has a small one, and less error."
    ),
)  # fmt: skip

mc_blackjack = Recipe(
    "Monte Carlo with exploring starts learns to play blackjack, a million games in each run.",
    Study("monte_carlo_control:ExploringStarts", steps=1_000, save_every=500, log_every=10, runs=4),
    system="Monte Carlo control with exploring starts", data="Blackjack",
    headline=Headline("Sutton & Barto 2018", where="figure 5.2 (policy)"), claim=Claim("regret", at_most=0.0015),
    space={"batch": "randint(100,10000)"}, tune_metric="regret", tune_mode="min",
    text=about("The regret is exact: the best policy loses 0.0431 of the stake a game, and the learned policy's value is solved for."),
)  # fmt: skip

mc_soft_blackjack = Recipe(
    "Monte Carlo control with an epsilon-soft policy learns to play blackjack from ordinary games.",
    Study("monte_carlo_control:EpsilonSoft", steps=1_000, save_every=500, log_every=10, runs=4),
    system="Monte Carlo control with epsilon-soft policies", data="Blackjack",
    headline=Headline("Sutton & Barto 2018", where="section 5.4"), claim=Claim("regret", at_most=0.0018),
    space={"epsilon": "uniform(0.02,0.5)"}, tune_metric="regret", tune_mode="min",
    text=about("The regret is that to the best policy which explores as much."),
)  # fmt: skip

mc_off_policy_blackjack = Recipe(
    "Off-policy Monte Carlo control learns to play blackjack without exploring starts.",
    Study("monte_carlo_control:OffPolicy", steps=1_000, save_every=500, log_every=10, runs=4),
    system="Off-policy Monte Carlo control", data="Blackjack", headline=Headline("Sutton & Barto 2018", where="section 5.7"),
    claim=Claim("regret", at_most=0.0022), space={"epsilon": "uniform(0.02,0.5)"}, tune_metric="regret", tune_mode="min",
    text=about("It learns the best policy while another one plays, but only from what follows the last action that was not greedy."),
)  # fmt: skip
