"""Recipes of evolution strategies."""

from ray_jobs.recipe import Claim, Headline, Recipe, Study, Variant

SALIMANS = Headline("Salimans et al. 2017", arxiv="1703.03864", where="section 4 has other environments")
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

es_halfcheetah = Recipe(
    "Evolution strategies make a cheetah run, for as many steps as the paper; needs the mujoco extra.",
    Study(PROCESS, steps=72, save_every=5, log_every=1, env="HalfCheetah-v5", pairs=20, sigma=0.05, lr=0.03,
          weight_decay=0.005, width=64, depth=2, normalize=True, shard=2, eval_episodes=20),
    system="Evolution strategies", data="HalfCheetah-v5",
    headline=Headline("Salimans et al. 2017", arxiv="1703.03864", metric="episode_return", value=2385.79,
                      where="table 3, after 2.88e6 steps, on HalfCheetah-v1; TRPO's after 5e6 steps"),
    space={"lr": "loguniform(0.003,0.1)", "sigma": "loguniform(0.01,0.2)"},
    text=(
        "The paper's network, two layers of 64 tanh units, and its number of steps: 72 generations of 40 episodes are 2.88 "
        "million, and 72,000 more of the unperturbed weights. The paper does not say how many episodes a generation has there, "
        "nor sigma and Adam's step size: these are ours, and so is the version of the environment."
    ),
)  # fmt: skip

es_humanoid = Recipe(
    "Evolution strategies teach a humanoid to walk, at the scale of the paper; needs the mujoco extra and many cores.",
    Study(PROCESS, steps=1_000, save_every=10, log_every=1, env="Humanoid-v5", pairs=5_000, sigma=0.02, lr=0.01,
          weight_decay=0.005, width=256, depth=2, normalize=True, shard=2, eval_episodes=30),
    system="Evolution strategies", data="Humanoid-v5",
    headline=Headline("Salimans et al. 2017", arxiv="1703.03864", metric="episode_return", value=6000,
                      where="figure 1, on Humanoid-v1: in 657 minutes on 18 cores, in 10 on 1,440"),
    space={"lr": "loguniform(0.003,0.03)", "sigma": "loguniform(0.01,0.1)"},
    variants={"rank1": Variant("Humanoid-v5", None, {"rank": 1})},
    text=(
        "The settings of the authors' released code for Humanoid: 10,000 episodes for each step, deviation 0.02, Adam with 0.01, "
        "decay 0.005, two layers of 256 units. Their code also plays at least 100,000 steps a generation, adds noise to actions, "
        "and takes the observations' mean from 1 episode in 100, not from those of the unperturbed weights. @rank1 draws "
        "perturbations of rank one, whose update takes a thirtieth of the time; docs/scale.md has what that means on 1,440 "
        "workers. It is not trained here, and makes no claim."
    ),
)  # fmt: skip
