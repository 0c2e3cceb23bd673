"""Recipes of PPO, PPO with a KL penalty."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

PAPER = Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return")

ppo_acrobot = Recipe(
    "PPO swings up a two-link arm.",
    Play("ppo:PPO", env="Acrobot-v1", steps=500_000, envs=16, normalize_obs=True, minibatches=8, lr=0.001, anneal=True,
         lam=0.94),
    system="PPO", headline=PAPER, claim=Claim("episode_return", at_least=-85),
    space={"lr": "loguniform(1e-4,3e-3)", "entropy_weight": "choice(0.0,0.01)"},
    text="Observations are normalised, as in stable-baselines3's zoo, whose result is -73.5 after a million steps.",
)  # fmt: skip

ppo_cartpole = Recipe(
    "PPO balances a pole on a cart.",
    Play("ppo:PPO", env="CartPole-v1", steps=300_000, envs=112, stop_return=475.0, log_every=10_000, horizon=32,
         epochs=3, minibatches=3, lr=0.025, anneal=True, value_weight=0.003, width=32, shared=True),
    system="PPO", headline=PAPER, claim=Claim("episode_return", at_least=475),
    space={"lr": "loguniform(3e-3,5e-2)", "clip": "choice(0.1,0.2,0.3)", "epochs": "choice(2,4,8)"},
    text="Many environments at once and one small network, so that neither Python nor the matrices set the pace alone.",
)  # fmt: skip

ppo_cartpole_zoo = Recipe(
    "PPO on CartPole-v1 with the settings of stable-baselines3's zoo.",
    Play("ppo:PPO", env="CartPole-v1", steps=100_000, horizon=32, epochs=20, minibatches=1, lr=0.001, anneal=True,
         gamma=0.98, lam=0.8),
    system="PPO", headline=PAPER, claim=Claim("episode_return", at_least=475),
    text="Slower than `ppo_cartpole`: it is here to be compared with the peers at their own settings.",
)  # fmt: skip

ppo_halfcheetah = Recipe(
    "PPO lets a cheetah run, at the paper's scale; needs the mujoco package.",
    Play("ppo:PPO", env="HalfCheetah-v5", steps=1_000_000, normalize_obs=True, normalize_reward=True, horizon=256,
         epochs=10, minibatches=32, lr=0.0003, anneal=True, value_weight=0.25, normalize_advantage=False),
    system="PPO",
    headline=Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return", where="figure 3"),
    space={"lr": "loguniform(1e-4,1e-3)", "clip": "choice(0.1,0.2,0.3)", "epochs": "choice(5,10,20)"},
    text=(
        "The settings of Tianshou's benchmark, whose ten seeds reached 5784 on HalfCheetah-v3 in as many steps. Tianshou "
        "recomputes advantages for each epoch and starts deviations at exp(-0.5); neither is done here."
    ),
)  # fmt: skip

ppo_hopper = Recipe(
    "PPO hops on one leg, with many environments at once; needs the mujoco extra.",
    Play("ppo:PPO", env="Hopper-v5", steps=1_000_000, envs=32, normalize_obs=True, normalize_reward=True,
         eval_episodes=20, log_every=10_000, horizon=64, epochs=10, minibatches=16, lr=0.0003, anneal=True,
         value_weight=0.25, normalize_advantage=False),
    system="PPO",
    headline=Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return", where="figure 3"),
    claim=Claim("episode_return", at_least=2500, seeds=3),
    space={"lr": "loguniform(1e-4,1e-3)", "clip": "choice(0.1,0.2,0.3)", "epochs": "choice(5,10,20)"},
    text=(
        "The paper's million steps in minutes: 32 environments, minibatches of 128, and else the settings of "
        "Tianshou's benchmark, whose ten seeds reached 2609 on Hopper-v3. A random policy scores about 19. An agent that "
        "stands still for all 1000 steps gets 1000. Measured over seeds 0 to 2: 2841 to 3452."
    ),
)  # fmt: skip

ppo_kl_cartpole = Recipe(
    "PPO with an adaptive penalty on the KL, in place of clipping, balances a pole; a random policy scores about 22.",
    Play("ppo:PPO", env="CartPole-v1", steps=200_000, envs=16, stop_return=475.0, horizon=32, epochs=5, lr=0.001,
         anneal=True, penalty_kl=0.01),
    system="PPO with a KL penalty",
    headline=Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return", where="section 4"),
    claim=Claim("episode_return", at_least=475),
    space={"lr": "loguniform(3e-4,1e-2)", "penalty_kl": "loguniform(3e-3,3e-2)", "epochs": "choice(5,10,20)"},
    text="The paper's middle target, 0.01 nats.",
)  # fmt: skip

ppo_lunarlander = Recipe(
    "PPO lands on the moon; needs the box2d extra.",
    Play("ppo:PPO", env="LunarLander-v3", steps=1_000_000, envs=16, env_options={"continuous": False}, horizon=1024,
         minibatches=256, lr=0.0003, gamma=0.999, lam=0.98, entropy_weight=0.01),
    system="PPO", headline=PAPER, claim=Claim("episode_return", at_least=200),
    space={"lr": "loguniform(1e-4,1e-3)", "entropy_weight": "choice(0.0,0.01)"},
    text="The settings of stable-baselines3's zoo, whose result on the version before was 242.",
)  # fmt: skip

ppo_pong = Recipe(
    "PPO plays Pong, at the paper's scale; needs the ale-py package.",
    Play("ppo:PPO", env="ALE/Pong-v5", steps=10_000_000, save_every=500_000, log_every=10_000, anneal=True, clip=0.1,
         entropy_weight=0.01, shared=True),
    system="PPO",
    headline=Headline("Schulman et al. 2017", arxiv="1707.06347", metric="episode_return", value=20.7, where="table 6"),
    space={"lr": "loguniform(1e-4,1e-3)", "clip": "choice(0.1,0.2)", "entropy_weight": "choice(0.0,0.01)"},
    text="The settings of stable-baselines3's zoo for Atari: 40 million frames, as in the paper.",
)  # fmt: skip
