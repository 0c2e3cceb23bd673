"""RLlib's IMPALA and APPO (new API stack) on CartPole-v1: runners are Ray actors, the learner is in the driver's process."""

import logging
import tempfile

import ray
import torch
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from workers import Pace, arguments, emit

CONFIGS = {"IMPALA": IMPALAConfig, "APPO": APPOConfig}


def config(args):
    """Environments, fragments, batch (one fragment) and discount as ours; step size and losses from RLlib's own CartPole example."""
    return (
        CONFIGS[args.algorithm]()
        .environment("CartPole-v1")
        .env_runners(
            num_env_runners=args.runners,
            num_envs_per_env_runner=args.envs,
            rollout_fragment_length=args.horizon,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=0)
        .training(
            train_batch_size_per_learner=args.envs * args.horizon,
            gamma=args.gamma,
            lr=5e-4,
            grad_clip=40.0,
            grad_clip_by="global_norm",
            vf_loss_coeff=0.05,
            entropy_coeff=0.0,
        )
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=True))
        .reporting(min_time_s_per_iteration=1, metrics_num_episodes_for_smoothing=100)
        .debugging(seed=args.seed, log_level="ERROR")
    )  # fmt: skip


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    torch.set_num_threads(1)
    logging.getLogger("ray").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="rllib-", ignore_cleanup_errors=True) as folder:
        ray.init(address="local", num_cpus=args.runners + 1, include_dashboard=False, log_to_driver=False,
                 _temp_dir=folder, object_store_memory=100_000_000)  # fmt: skip
        algorithm, pace, score = config(args).build_algo(), Pace(), None
        while pace.last[1] < args.steps:
            found = algorithm.train()["env_runners"]
            pace.saw(int(found.get("num_env_steps_sampled_lifetime", 0)))
            score = found.get("episode_return_mean", score)
        emit(pace, None if score is None else float(score))
        ray.shutdown()


main()
