"""Recipes of MADDPG."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

PAPER = Headline("Lowe et al. 2017", arxiv="1706.02275", metric="episode_return")

maddpg_adversary = Recipe(
    "MADDPG: two agents hide their landmark from an adversary; needs the mpe extra.",
    Play("maddpg:MADDPG", env="mpe2.simple_adversary_v3:parallel_env", steps=30_000, envs=16, batch_size=256,
         train_every=16, actor_lr=0.005, critic_lr=0.005),
    system="MADDPG", headline=PAPER, data="simple_adversary_v3", claim=Claim("episode_return", at_least=-9),
    space={"actor_lr": "loguniform(1e-3,2e-2)", "critic_lr": "loguniform(1e-3,2e-2)", "train_every": "choice(25,50,100)"},
    text=(
        "Two agents know which of two landmarks is theirs, and an adversary that follows them does not. The return "
        "adds up all three rewards over 25 steps. It comes to the adversary's distance from the landmark, less twice "
        "that of the nearer agent: it rises as the agents learn to get there and to deceive, and falls as the "
        "adversary learns to find out. So it says who gains on whom, and not how good either is: both learn. A random "
        "policy scores about -17.5 (100 episodes, standard error 2.3), agents that stand still about -16. Measured "
        "over seeds 0 to 4: -1 to -8."
    ),
)  # fmt: skip

maddpg_spread = Recipe(
    "MADDPG: three agents cover three landmarks without running into each other; needs the mpe extra.",
    Play("maddpg:MADDPG", env="mpe2.simple_spread_v3:parallel_env", steps=30_000, envs=16, batch_size=256,
         train_every=16, updates_per_train=2, actor_lr=0.005, critic_lr=0.005),
    system="MADDPG", headline=PAPER, data="simple_spread_v3", claim=Claim("episode_return", at_least=-60),
    space={"actor_lr": "loguniform(1e-3,2e-2)", "critic_lr": "loguniform(1e-3,2e-2)", "train_every": "choice(25,50,100)"},
    text=(
        "The return is the three agents' together over 25 steps: minus the landmarks' distances from their nearest "
        "agents, less collisions. A random policy scores about -77 (100 episodes, standard error 2.3), agents that "
        "stand still about -72. Measured over seeds 0 to 4: -50 to -58. The paper reports distances and collisions "
        "apart, after 1.5 million steps with a batch of 1024 every 100 of them."
    ),
)  # fmt: skip

maddpg_spread_continuous = Recipe(
    "MADDPG: three agents push themselves over three landmarks, without running into each other; needs the mpe extra.",
    Play("maddpg:MADDPG", env="mpe2.simple_spread_v3:parallel_env", steps=30_000, envs=16,
         env_options={"continuous_actions": True}, batch_size=256, train_every=16, updates_per_train=2, actor_lr=0.005,
         critic_lr=0.005),
    system="MADDPG", headline=PAPER, data="simple_spread_v3", claim=Claim("episode_return", at_least=-64),
    space={"actor_lr": "loguniform(1e-3,2e-2)", "critic_lr": "loguniform(1e-3,2e-2)", "exploration_noise": "choice(0.05,0.1,0.2,0.3)"},
    text=(
        "As maddpg_spread, but of an agent's five numbers the first does nothing, and the others are how hard it "
        "pushes to each side. A random policy scores about -78 and agents that stand still about -75 (100 episodes "
        "each, standard error 2.4). Measured over seeds 0 to 4: -56 to -62. The paper reports distances and "
        "collisions apart."
    ),
)  # fmt: skip
