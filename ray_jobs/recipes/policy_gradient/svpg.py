"""Recipes of SVPG."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

svpg_cartpole = Recipe(
    "SVPG balances a pole with several policies at once; a random policy scores about 22.",
    Play("svpg:SVPG", env="CartPole-v1", steps=200_000, envs=16),
    system="SVPG", headline=Headline("Liu et al. 2017", arxiv="1704.02399", metric="episode_return"),
    claim=Claim("episode_return", at_least=475),
    space={"temperature": "loguniform(1e-2,1.0)", "lr": "loguniform(1e-3,1e-2)", "particles": "choice(2,4,8)"},
    text="Four particles with four environments each; the best of them is evaluated.",
)  # fmt: skip
