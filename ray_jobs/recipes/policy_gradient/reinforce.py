"""Recipes of REINFORCE."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

reinforce_cartpole = Recipe(
    "REINFORCE with a baseline balances a pole on a cart.",
    Play("reinforce:REINFORCE", env="CartPole-v1", steps=1_000_000, envs=16, horizon=250, tail=500),
    system="REINFORCE", headline=Headline("Williams 1992", metric="episode_return", where="doi:10.1007/BF00992696"),
    claim=Claim("episode_return", at_least=475),
    space={"lr": "loguniform(1e-3,3e-2)", "horizon": "choice(125,250,500)"},
    text=(
        "A random policy scores about 22, the best possible one 500. Whole returns cost steps: two in three only "
        "complete the third's."
    ),
)  # fmt: skip
