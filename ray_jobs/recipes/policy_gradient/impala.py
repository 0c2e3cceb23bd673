"""Recipes of IMPALA."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

PAPER = Headline("Espeholt et al. 2018", arxiv="1802.01561", metric="episode_return")

impala_cartpole = Recipe(
    "IMPALA balances a pole on a cart, from fragments as they arrive.",
    Play("impala:IMPALA", env="CartPole-v1", steps=500_000, stop_return=475.0, horizon=16, gamma=0.98, lr=0.001,
         entropy_weight=0.001),
    system="IMPALA", headline=PAPER, claim=Claim("episode_return", at_least=400),
    space={"lr": "loguniform(3e-4,1e-2)", "entropy_weight": "choice(0.0,0.003,0.01)"},
    text="One gradient step per fragment.",
)  # fmt: skip

impala_pong = Recipe(
    "IMPALA plays Pong, at the paper's scale; needs the ale-py package.",
    Play("impala:IMPALA", env="ALE/Pong-v5", steps=50_000_000, envs=32, save_every=1_000_000, log_every=50_000,
         lr=0.0006, max_norm=0.0625, shared=True),
    system="IMPALA", headline=PAPER,
    space={"lr": "loguniform(1e-4,2e-3)", "entropy_weight": "choice(0.003,0.01,0.03)"},
    text=(
        "The paper's settings for Atari, with its shallow network without LSTM and Adam in place of RMSProp: 200 "
        "million frames."
    ),
)  # fmt: skip
