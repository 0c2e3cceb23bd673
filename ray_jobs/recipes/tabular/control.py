"""Recipes of control by action values."""

from ray_jobs.recipe import Claim, Headline, Recipe, Study

BOOK = Headline("Sutton & Barto 2018", where="example 6.6 (curves)")
SPACE = {"alpha": "uniform(0.1,1)", "power": "uniform(0,1)", "epsilon": "uniform(0.05,0.5)"}


def about(more: str) -> str:
    """The text of a recipe."""
    return f"{more} --env takes every environment with a table: FrozenLake-v1, Taxi-v4, or a function of your own."


sarsa_cliff = Recipe(
    "SARSA learns to keep off the cliff, because it explores.",
    Study("control:SARSA", steps=250, save_every=50, log_every=5, runs=50, power=0.55),
    system="SARSA", data="CliffWalking-v1", headline=BOOK, claim=Claim("value_error", at_most=0.6), space=SPACE,
    text=about("Its values are those of the best policy that explores, -20.7 at the start, and not of the best one, -13."),
)  # fmt: skip

expected_sarsa_cliff = Recipe(
    "Expected SARSA learns the values of the best policy that explores, with less noise.",
    Study("control:ExpectedSARSA", steps=250, save_every=50, log_every=5, runs=50, power=0.55),
    system="Expected SARSA", data="CliffWalking-v1", headline=BOOK, claim=Claim("value_error", at_most=0.6), space=SPACE,
    text=about("The next action is averaged over, not drawn."),
)  # fmt: skip

q_cliff = Recipe(
    "Q-learning finds the shortest path, along the cliff.",
    Study("control:QLearning", steps=20, save_every=10, log_every=1, runs=100),
    system="Q-learning", data="CliffWalking-v1", headline=BOOK, claim=Claim("value_error", at_most=1e-6), space=SPACE,
    text=about("It learns the best policy while it explores; on the cliff nothing but the policy is random, so its values become exact."),
)  # fmt: skip

q_frozenlake = Recipe(
    "Q-learning crosses the slippery lake as well as the best policy.",
    Study("control:QLearning", steps=200, save_every=50, log_every=5, env="FrozenLake-v1", gamma=0.99, epsilon=1.0, alpha=1.0,
          power=0.8, runs=100),
    system="Q-learning", data="FrozenLake-v1", headline=Headline("Watkins & Dayan 1992"),
    claim=Claim("episode_return", at_least=0.69), space=SPACE,
    text=about("The chance of the greedy policy to reach the goal within 100 steps is computed, not sampled; the best policy's is 0.74."),
)  # fmt: skip

double_q_cliff = Recipe(
    "Double Q-learning finds the shortest path, along the cliff.",
    Study("control:DoubleQ", steps=60, save_every=10, log_every=1, runs=100, alpha=1.0),
    system="Double Q-learning", data="CliffWalking-v1", headline=Headline("van Hasselt 2010"),
    space=SPACE,
    text=about("One table chooses the best next action, the other values it, so that noise does not make values too high."),
)  # fmt: skip
