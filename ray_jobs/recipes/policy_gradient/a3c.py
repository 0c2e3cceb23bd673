"""Recipes of A3C."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

a3c_cartpole = Recipe(
    "A3C balances a pole on a cart, from gradients that its runners send.",
    Play("a3c:A3C", env="CartPole-v1", steps=400_000, envs=16, lr=0.002, entropy_weight=0.0),
    system="A3C", headline=Headline("Mnih et al. 2016", arxiv="1602.01783", metric="episode_return"),
    claim=Claim("episode_return", at_least=475), space={"lr": "loguniform(5e-4,5e-3)", "horizon": "choice(5,8,16)"},
    text=(
        "Asynchronous with `--runners 2` or more: how many updates a gradient is behind is logged as policy_lag. A "
        "random policy scores about 22, the best possible one 500."
    ),
)  # fmt: skip
