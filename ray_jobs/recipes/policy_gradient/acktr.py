"""Recipes of ACKTR."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

PAPER = Headline("Wu et al. 2017", arxiv="1708.05144", metric="episode_return")

acktr_cartpole = Recipe(
    "ACKTR balances a pole on a cart; a random policy scores about 22, stable-baselines 2 in its zoo 487.6.",
    Play("acktr:ACKTR", env="CartPole-v1", steps=150_000, envs=16, stop_return=475.0),
    system="ACKTR", headline=PAPER, claim=Claim("episode_return", at_least=475),
    space={"lr": "loguniform(5e-2,1.0)", "max_kl": "loguniform(3e-4,1e-2)", "damping": "loguniform(1e-3,1e-1)"},
    text="One step for 320 new steps.",
)  # fmt: skip

acktr_pendulum = Recipe(
    "ACKTR swings up a pendulum; a random policy scores about -1200.",
    Play("acktr:ACKTR", env="Pendulum-v1", steps=200_000, envs=16, normalize_obs=True, normalize_reward=True,
         gamma=0.9, lam=0.95, max_kl=0.003, entropy_weight=0.0),
    system="ACKTR", headline=PAPER, claim=Claim("episode_return", at_least=-350),
    space={"lr": "loguniform(5e-2,1.0)", "max_kl": "loguniform(3e-4,1e-2)", "damping": "loguniform(1e-3,1e-1)"},
    text="Without an entropy bonus, and with a short discount: the pendulum answers at once.",
)  # fmt: skip
