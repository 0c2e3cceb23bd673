"""RLlib's PPO (new API stack, environments in the driver's process) on CartPole-v1."""

import logging
import tempfile

import ray
import torch
from protocol import Clock, Returns, arguments, emit, greedy_return
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig


def falling(value: float, args) -> float | list:
    """A value, or its linear schedule to 0."""
    return [[0, value], [args.steps, 0.0]] if args.anneal else value


def config(args, returns: Returns) -> PPOConfig:
    """The settings; RLlib's clip cannot fall with time, and its extra KL penalty is off as in the other peers."""
    model = DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=False)
    training = {
        "train_batch_size_per_learner": args.envs * args.horizon, "minibatch_size": args.minibatch,
        "num_epochs": args.epochs, "gamma": args.gamma, "lambda_": args.lam, "lr": falling(args.lr, args),
        "clip_param": args.clip, "entropy_coeff": args.entropy, "use_kl_loss": False, "vf_loss_coeff": 0.5,
        "vf_clip_param": float("inf"), "grad_clip": 0.5, "grad_clip_by": "global_norm",
    }  # fmt: skip
    vectorised = "vector_entry_point" if args.envs > 8 else "sync"
    return (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=args.envs, gym_env_vectorize_mode=vectorised)
        .training(**training)
        .rl_module(model_config=model)
        .callbacks(on_episode_end=listener(returns))
        .debugging(seed=args.seed, log_level="ERROR")
    )


def listener(returns: Returns):
    """What RLlib calls at the end of an episode, in this process; `prev_episode_chunks` are its earlier fragments."""

    def ended(episode, prev_episode_chunks, **_) -> None:
        returns.last.append(sum(part.get_return() for part in [*prev_episode_chunks, episode]))

    return ended


@torch.no_grad()
def score(algorithm) -> float:
    """The greedy return of the trained module."""
    module = algorithm.get_module()
    return greedy_return(
        lambda obs: module.forward_inference({"obs": torch.as_tensor(obs)})["action_dist_inputs"].argmax(-1).numpy()
    )


def main() -> None:
    """Measure, and print or record the result."""
    args, clock = arguments(), Clock()
    returns = Returns(args.until)
    torch.set_num_threads(1)
    logging.getLogger("ray").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="rllib-", ignore_cleanup_errors=True) as folder:
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=folder,
                 object_store_memory=100_000_000)  # fmt: skip
        algorithm = config(args, returns).build_algo()
        clock.begin()
        steps = 0
        while steps < args.steps and not returns.reached():
            steps = int(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])
        rate, hit = clock.rate(steps), clock.since_launch() if returns.reached() else None
        emit(rate=rate, hit=hit, steps=steps, score=score(algorithm), clock=clock)
        ray.shutdown()


main()
