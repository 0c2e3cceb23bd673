"""Recipes of Off-PAC."""

from ray_jobs.recipe import Claim, Headline, Play, Recipe

off_pac_cartpole = Recipe(
    "Off-policy actor-critic learns to balance a pole from a behaviour that drops it, half of which is chance.",
    Play("off_pac:OffPAC", env="CartPole-v1", steps=1_000_000, envs=64, wander=0.5, lr=0.003),
    system="Off-PAC", headline=Headline("Degris et al. 2012", arxiv="1205.4839", metric="episode_return"),
    claim=Claim("episode_return", at_least=400),
    space={"lr": "loguniform(5e-4,1e-2)", "lam": "choice(0.0,0.2,0.4,0.6)", "wander": "choice(0.3,0.5,1.0)"},
    text=(
        "Each action is the learned policy's or, as often, an even choice: training returns stay below 200, and the "
        "learned policy plays by itself in the evaluation alone. The best possible one scores 500, a random one about "
        "22. Measured over seeds 0 to 4: 434 to 500. With `wander` at 1 all actions are even choices, whose episodes "
        "last about 22 steps and hold few of the states that balancing passes through: 500,000 steps of those taught "
        "policies that scored 201 to 242."
    ),
)  # fmt: skip
