"""Recipes of ACER, ACER (dueling)."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

acer_cartpole = Recipe(
    "ACER balances a pole on a cart, from new and from replayed steps.",
    Play("acer:ACER", env="CartPole-v1", steps=150_000, envs=16, normalize_reward=True, lr=0.002),
    system="ACER", headline=Headline("Wang et al. 2017", arxiv="1611.01224", metric="episode_return"),
    claim=Claim("episode_return", at_least=475),
    space={"lr": "loguniform(5e-4,5e-3)", "replays": "choice(1,4,8)", "delta": "choice(0.1,1.0,10.0)"},
    text="The second stable-baselines' zoo reports 498.6; a random policy scores about 22.",
)  # fmt: skip

acer_pendulum = Recipe(
    "ACER with stochastic dueling networks swings up a pendulum.",
    Play("acer_continuous:ACERContinuous", env="Pendulum-v1", steps=150_000, envs=16, normalize_reward=True, replays=8,
         gamma=0.95, lr=0.004, std=0.4),
    system="ACER (dueling)",
    headline=Headline("Wang et al. 2017", arxiv="1611.01224", metric="episode_return", where="section 5"),
    claim=Claim("episode_return", at_least=-200),
    space={"lr": "loguniform(3e-4,5e-3)", "replays": "choice(1,4,8)", "std": "choice(0.2,0.3,0.5)"},
    text=(
        "The paper's runs are of MuJoCo's tasks; nobody has published a figure here. A random policy scores about "
        "-1200."
    ),
)  # fmt: skip
