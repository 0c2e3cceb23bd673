"""Our A2C, DQN, SAC and TD3 at the settings of `workloads`, called as a library, with no run folder."""

import torch
from workloads import WORK, arguments, emit

from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.algorithms.off_policy.sac import SAC
from ray_jobs.rl.algorithms.off_policy.td3 import TD3
from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C
from ray_jobs.rl.learning.play import play


class Nothing:
    """A recorder that keeps nothing."""

    def log(self, step, metrics) -> None:
        """Do nothing."""

    def save(self, step, state) -> None:
        """Do nothing."""


def algorithm(name: str, w: dict):
    """The algorithm with the shared settings."""
    if name == "a2c":
        plain = {"anneal": False, "entropy_weight": 0.0, "eps": 1e-5}  # as the peer's defaults
        return A2C(horizon=w["horizon"], lr=w["lr"], gamma=w["gamma"], width=w["width"], **plain)
    names = {"batch": "batch_size", "capacity": "buffer_size", "warmup": "learning_starts"}
    names |= {"every": "train_every", "updates": "updates_per_train", "gamma": "gamma", "width": "width"}
    common = {name: w[k] for k, name in names.items()}
    if name == "dqn":  # the peer copies the network every 10 steps, which never falls within a round of updates
        falling = {"explore_for": w["explore_for"], "epsilon": w["epsilon"]}
        return DQN(**common, **falling, lr=w["lr"], target_every=w["updates"])
    if name == "sac":
        return SAC(**common, actor_lr=w["lr"], critic_lr=w["lr"], tau=w["tau"])
    return TD3(**common, actor_lr=w["lr"], critic_lr=w["lr"], tau=w["tau"])


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    w = WORK[args.algorithm]
    torch.set_num_threads(1)
    many = w["env"] == "CartPole-v1"
    plan = Play(
        algorithm(args.algorithm, w),
        w["env"],
        steps=w["steps"],
        envs=w["envs"],
        matmul=args.matmul,
        eval_episodes=100 if many else 1,
    )
    result = play(plan, seed=args.seed, run=Nothing())
    score = result["episode_return"] if many else None
    emit(args.algorithm, int(result["env_steps"]), result["train_seconds"], score)


main()
