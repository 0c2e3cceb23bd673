"""Recipes of QAC."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

qac_cartpole = Recipe(
    "Actor-critic with a critic of actions balances a pole on a cart.",
    Play("qac:QAC", env="CartPole-v1", steps=1_500_000, envs=128, actor_lr=0.0005, critic_lr=0.01, gamma=0.98),
    system="QAC", headline=Headline("Sutton et al. 2000", metric="episode_return", where="theorem 1"),
    claim=Claim("episode_return", at_least=475),
    space={"actor_lr": "loguniform(2e-4,2e-3)", "critic_lr": "loguniform(2e-3,3e-2)"},
    text=(
        "A random policy scores about 22, the best possible one 500. Without a baseline only a large batch tells "
        "actions apart: both have a Q near 50 once the pole stands."
    ),
)  # fmt: skip
