"""Recipes of dynamic programming."""

from ray_jobs.recipe import Claim, Headline, Recipe, Study

BOOK = Headline("Sutton & Barto 2018", where="chapter 4")

dp_frozenlake = Recipe(
    "Value iteration solves the frozen lake of 8 x 8 cells, whose table is known.",
    Study("planning:ValueIteration", steps=20_000, save_every=200, log_every=10, env="FrozenLake8x8-v1", gamma=0.99),
    system="Value iteration", data="FrozenLake8x8-v1", headline=BOOK,
    claim=Claim("value_error", at_most=1e-9, seeds=1), space={"gamma": "uniform(0.9,0.999)"},
    text=(
        "Each sweep is computed in blocks of states. The values are compared with those of the optimal policy, by a "
        "linear solve. --env takes every environment with a table: FrozenLake-v1, CliffWalking-v1, "
        "CliffWalkingSlippery-v1, Taxi-v4. Nothing is random, so one seed is enough."
    ),
)  # fmt: skip

policy_iteration_frozenlake = Recipe(
    "Policy iteration solves the frozen lake of 8 x 8 cells in a few improvements.",
    Study("planning:PolicyIteration", steps=1_000, save_every=10, log_every=1, env="FrozenLake8x8-v1", gamma=0.99),
    system="Policy iteration", data="FrozenLake8x8-v1", headline=BOOK, claim=Claim("residual", at_most=1e-9, seeds=1),
    space={"gamma": "uniform(0.9,0.999)"},
    text=(
        "Each policy's values are solved for exactly. The claim is about what needs no other solution of the problem: "
        "how much a sweep of value iteration changes the last values; their error is at most 1 / (1 - gamma) times "
        "that."
    ),
)  # fmt: skip

dp_random_mdp = Recipe(
    "Value iteration solves random processes of 200 states and 4 actions.",
    Study("planning:ValueIteration", steps=20_000, save_every=200, log_every=10, env="ray_jobs.tabular.mdp:random_mdp",
          env_options={"states": 200, "actions": 4}, gamma=0.95),
    system="Value iteration", data="random MDPs", headline=BOOK, claim=Claim("value_error", at_most=1e-9, seeds=20),
    space={"gamma": "uniform(0.8,0.99)"},
    text=(
        "Each seed draws a process: transitions from flat Dirichlet distributions, rewards from the standard normal "
        "one."
    ),
)  # fmt: skip

policy_evaluation_frozenlake = Recipe(
    "Policy evaluation finds what walking at random is worth on the frozen lake of 8 x 8 cells.",
    Study("planning:PolicyEvaluation", steps=20_000, save_every=200, log_every=10, env="FrozenLake8x8-v1", gamma=0.99),
    system="Policy evaluation", data="FrozenLake8x8-v1", headline=BOOK,
    claim=Claim("value_error", at_most=1e-9, seeds=1), space={"gamma": "uniform(0.9,0.999)"},
    text=(
        "The values are compared with a linear solve. --policy best takes the optimal policy, and --policy "
        "package.module:function one of your own."
    ),
)  # fmt: skip

modified_policy_iteration_frozenlake = Recipe(
    "Modified policy iteration solves the frozen lake of 8 x 8 cells, with ten sweeps for each policy.",
    Study("planning:ModifiedPolicyIteration", steps=10_000, save_every=200, log_every=10, env="FrozenLake8x8-v1", gamma=0.99),
    system="Modified policy iteration", data="FrozenLake8x8-v1", headline=Headline("Puterman 1994", where="section 6.5"),
    claim=Claim("value_error", at_most=1e-9, seeds=1), space={"gamma": "uniform(0.9,0.999)", "sweeps": "randint(1,50)"},
    text="--sweeps 1 is value iteration; with more sweeps it comes closer to policy iteration.",
)  # fmt: skip
