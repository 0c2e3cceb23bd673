"""RLlib's SAC (new API stack, environment in the driver's process) at the settings of `workloads`, for fewer steps: it is slow."""

import logging
import tempfile
import time

import ray
import torch
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from workloads import WORK, arguments, emit

STEPS = 500


def config(w: dict, seed: int) -> SACConfig:
    """One update for every step, of a batch drawn evenly; RLlib reports, and is stopped, every 100 steps."""
    training = {
        "actor_lr": w["lr"], "critic_lr": w["lr"], "alpha_lr": w["lr"], "tau": w["tau"], "gamma": w["gamma"],
        "train_batch_size_per_learner": w["batch"], "num_steps_sampled_before_learning_starts": w["warmup"],
        "replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": w["capacity"]},
    }  # fmt: skip
    model = DefaultModelConfig(fcnet_hiddens=[w["width"]] * 2, fcnet_activation="relu", head_fcnet_hiddens=[])
    return (
        SACConfig()
        .environment(w["env"])
        .env_runners(num_env_runners=0, num_envs_per_env_runner=w["envs"], rollout_fragment_length=w["every"])
        .learners(num_learners=0)
        .training(**training)
        .rl_module(model_config=model)
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=100)
        .debugging(seed=seed, log_level="ERROR")
    )


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    w = WORK[args.algorithm]
    torch.set_num_threads(1)
    logging.getLogger("ray").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="rllib-", ignore_cleanup_errors=True) as folder:
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=folder,
                 object_store_memory=100_000_000)  # fmt: skip
        algorithm, steps = config(w, args.seed).build_algo(), 0
        started = time.perf_counter()
        while steps < STEPS:
            steps = int(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])
        emit(args.algorithm, steps, time.perf_counter() - started, None)
        ray.shutdown()


main()
