"""Recipes of DQN."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe, Variant

dqn_cartpole = Recipe(
    "DQN balances a pole on a cart, from replayed steps.",
    Play("dqn:DQN", env="CartPole-v1", steps=50_000, train_every=64, updates_per_train=64, lr=0.0005, anneal=True,
         double=True, error_clip=100, width=128),
    system="DQN", headline=Headline("Mnih et al. 2015", metric="episode_return", where="doi:10.1038/nature14236"),
    claim=Claim("episode_return", at_least=300, seeds=10),
    space={"lr": "loguniform(3e-4,1e-2)", "target_every": "choice(32,128,512)"},
    variants={
        "dueling": Variant("CartPole-v1", Claim("episode_return", at_least=300), {"dueling": True},
                           Headline("Wang et al. 2016", where="arXiv:1511.06581 (57 Atari games)")),
        "c51": Variant("CartPole-v1", Claim("episode_return", at_least=300), {"atoms": 51, "low": 0.0, "high": 100.0},
                       Headline("Bellemare et al. 2017", where="arXiv:1707.06887 (57 Atari games)")),
        "quantiles": Variant("CartPole-v1", Claim("episode_return", at_least=300), {"quantiles": 50, "error_clip": 1.0},
                             Headline("Dabney et al. 2018", where="arXiv:1710.10044 (57 Atari games)")),
    },
    text=(
        "Near the settings of stable-baselines3's zoo, with double Q-learning, an update for every step, and a step "
        "size that falls to 0. Errors count by their squares, as far as the end of an episode is worth. By Huber's "
        "loss, which turns linear at 1, the many steps before an end outvote it: one seed in three was then left with "
        "a policy of less than 300 steps."
    ),
)  # fmt: skip

dqn_pong = Recipe(
    "DQN plays Pong from its screen at the paper's scale; needs the atari extra, a GPU, and memory for the frames.",
    Play("dqn:DQN", env="ALE/Pong-v5", steps=50_000_000, envs=1,
         env_options={"repeat_action_probability": 0.0, "episodic_life": True, "max_num_frames_per_episode": 18000},
         eval_episodes=30, save_every=5_000_000, log_every=20_000, buffer_size=1_000_000, batch_size=32,
         learning_starts=50_000, train_every=4, updates_per_train=1, lr=6.25e-05, target_every=10_000,
         explore_for=0.02, epsilon=0.1, max_norm=float("inf")),
    system="DQN",
    headline=Headline("Mnih et al. 2015", metric="episode_return", value=18.9,
                      where="doi:10.1038/nature14236, extended data table 2"),
    space={"lr": "loguniform(3e-5,3e-4)", "n_step": "choice(1,3)"},
    variants={
        "c51": Variant("ALE/Pong-v5", None, {"atoms": 51, "lr": 0.00025, "epsilon": 0.01},
                       Headline("Bellemare et al. 2017", where="arXiv:1707.06887, section 5")),
    },
    text=(
        "The settings of Mnih et al. 2015, extended data table 1; a random policy scores -20.7 there, and people 9.3. "
        "The step size is Adam's of Hessel et al. 2018, arXiv:1710.02298, table 1: the paper's is RMSProp's. The "
        "evaluation is greedy over 30 episodes of 5 minutes, where the paper's plays 5% of its actions at random. "
        "@c51 has 51 atoms from -10 to 10 and the step size of Bellemare et al. 2017, section 5; rewards are clipped, so a "
        "discounted return of Pong is within the atoms."
    ),
)  # fmt: skip

dqn_breakout10 = Recipe(
    "DQN plays MinAtar's Breakout, of 10 x 10 pixels; needs the minatar extra (GPL-3.0).",
    Play("dqn:DQN", env="MinAtar/Breakout-v1", steps=1_000_000, envs=8, buffer_size=100_000, batch_size=32, learning_starts=5000,
         train_every=8, updates_per_train=8, lr=0.00025, target_every=1000, explore_for=0.1, epsilon=0.1, max_norm=float("inf")),
    system="DQN", headline=Headline("Young & Tian 2019", where="arXiv:1903.03176 (curves)"),
    space={"lr": "loguniform(1e-4,1e-3)", "n_step": "choice(1,3)", "dueling": "choice(false,true)"},
    text=(
        "The settings of section 3, with Adam in place of RMSProp and eight games at once. --env MinAtar/Freeway-v1 and the other "
        "three games take the same settings. Not trained to its end yet: it makes no claim."
    ),
)  # fmt: skip
