"""Recipes of DPG."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

PAPER = Headline("Silver et al. 2014", metric="episode_return", where="proceedings.mlr.press/v32/silver14")

dpg_lqr = Recipe(
    "DPG brings a cart with linear dynamics to rest, where the best policy is known.",
    Play("dpg:DPG", env="ray_jobs.envs.lqr:make", steps=15_000, env_options={"length": 20, "gamma": 0.95},
         eval_episodes=1000, buffer_size=2000, train_every=8, updates_per_train=4, gamma=0.95, actor_lr=0.001,
         critic_lr=0.003, anneal=True, tau=0.05, exploration_noise=0.1, actor_width=0),
    system="DPG", headline=PAPER, data="LQR cart", claim=Claim("episode_return", at_least=-5.2),
    space={"actor_lr": "loguniform(3e-4,3e-3)", "critic_lr": "loguniform(1e-3,1e-2)", "exploration_noise": "choice(0.03,0.1,0.3)"},
    text=(
        "A linear actor, to which the compatible critic can give the true slope. The best gain scores -4.56 on "
        "average, no force at all -28, and random forces about -1060."
    ),
)  # fmt: skip

dpg_pendulum = Recipe(
    "DPG swings a pendulum up.",
    Play("dpg:DPG", env="Pendulum-v1", steps=20_000, buffer_size=20_000, train_every=8, updates_per_train=4,
         gamma=0.98, actor_lr=0.001, critic_lr=0.003, anneal=True, tau=0.02, exploration_noise=0.5),
    system="DPG", headline=PAPER, claim=Claim("episode_return", at_least=-180),
    space={"actor_lr": "loguniform(3e-4,3e-3)", "critic_lr": "loguniform(1e-3,1e-2)", "exploration_noise": "choice(0.2,0.3,0.5)"},
    text=(
        "An actor that is a network, whose critic is linear in as many features as the actor has weights. A random "
        "policy scores about -1200; stable-baselines3's zoo reports -152 for DDPG."
    ),
)  # fmt: skip
