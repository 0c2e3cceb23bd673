"""Recipes of A2C."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

PAPER = Headline("Mnih et al. 2016", arxiv="1602.01783", metric="episode_return")

a2c_cartpole = Recipe(
    "A2C balances a pole on a cart.",
    Play("a2c:A2C", env="CartPole-v1", steps=400_000, envs=16, lr=0.002, entropy_weight=0.0),
    system="A2C", headline=PAPER, claim=Claim("episode_return", at_least=475),
    space={"lr": "loguniform(5e-4,5e-3)", "horizon": "choice(5,8,16)", "use_rmsprop": "choice(true,false)"},
    text=(
        "Near the settings of stable-baselines3's zoo, which reports 500 after 500,000 steps of one seed; there the "
        "step size does not fall. A random policy scores about 22."
    ),
)  # fmt: skip

a2c_pong = Recipe(
    "A2C plays Pong from pixels, at the paper's scale; needs ale-py.",
    Play("a2c:A2C", env="ALE/Pong-v5", steps=10_000_000, envs=16, eval_episodes=30, save_every=500_000,
         log_every=20_000, value_weight=0.25),
    system="A2C", headline=PAPER,
    text=(
        "The settings of stable-baselines3's zoo, whose benchmark reports 17.3 for one seed of PongNoFrameskip-v4, a "
        "game without sticky actions, played by chance too; a random policy scores about -21. The step size falls to "
        "0, as in the paper."
    ),
)  # fmt: skip
