"""Recipes of evolution strategies."""

from ray_jobs.recipe import Claim, Headline, Recipe, Study, Variant

SALIMANS = Headline("Salimans et al. 2017", where="arXiv:1703.03864, section 4 (curves and times)")
PROCESS = "ray_jobs.evolution.evolution_strategy:EvolutionStrategy"

es_cartpole = Recipe(
    "Evolution strategies balance a pole on a cart; workers exchange returns alone.",
    Study(PROCESS, steps=30, save_every=10, log_every=1),
    system="Evolution strategies", data="CartPole-v1", headline=SALIMANS, claim=Claim("episode_return", at_least=475),
    space={"lr": "loguniform(0.01,0.2)", "sigma": "loguniform(0.03,0.3)"},
    variants={"rank1": Variant("CartPole-v1", Claim("episode_return", at_least=475), {"rank": 1})},
    text=(
        "64 mirrored pairs of a tanh perceptron of 32 and 32 units. Each worker rebuilds all perturbations and the weights from 16 "
        "bytes of returns for a pair. --rank 1 draws perturbations of rank one. --env takes those with a Discrete or Box action space."
    ),
)  # fmt: skip

es_pendulum = Recipe(
    "Evolution strategies swing a pendulum up.",
    Study(PROCESS, steps=100, save_every=10, log_every=1, env="Pendulum-v1", episodes=4, normalize=True),
    system="Evolution strategies", data="Pendulum-v1", headline=SALIMANS,
    space={"lr": "loguniform(0.01,0.2)", "sigma": "loguniform(0.03,0.3)"},
    text="A member's return is the mean of four episodes. A random policy scores about -1200.",
)  # fmt: skip

es_humanoid = Recipe(
    "Evolution strategies teach a humanoid to walk, at the scale of the paper; needs the mujoco extra and many cores.",
    Study(PROCESS, steps=1_000, save_every=10, log_every=1, env="Humanoid-v5", pairs=5_000, sigma=0.02, lr=0.01,
          weight_decay=0.005, width=256, depth=2, normalize=True, shard=4, eval_episodes=30),
    system="Evolution strategies", data="Humanoid-v5", headline=SALIMANS,
    space={"lr": "loguniform(0.003,0.03)", "sigma": "loguniform(0.01,0.1)"},
    text=(
        "The settings of the authors' released code for Humanoid: 10,000 episodes for each step, deviation 0.02, Adam with 0.01, "
        "decay 0.005, two layers of 256 units. The paper took 10 minutes on 1,440 cores. It is not trained here, and makes no claim."
    ),
)  # fmt: skip
