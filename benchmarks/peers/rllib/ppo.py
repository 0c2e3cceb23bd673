"""RLlib's PPO (new API stack, environments in the driver's process) on CartPole-v1."""

import logging
import tempfile

import ray
import torch
from protocol import Clock, arguments, emit, greedy_return
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig


def falling(value: float, args) -> float | list:
    return [[0, value], [args.steps, 0.0]] if args.anneal else value


def config(args) -> PPOConfig:
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
        .debugging(seed=args.seed, log_level="ERROR")
    )


class Watch:
    """Trains until the steps are done or the mean return of the last 100 episodes is there."""

    def __init__(self, args, clock: Clock) -> None:
        self.args, self.clock, self.steps, self.episodes, self.hit = args, clock, 0, 0, None

    def done(self, result: dict) -> bool:
        seen = result["env_runners"]
        self.steps = int(seen["num_env_steps_sampled_lifetime"])
        self.episodes += int(seen.get("num_episodes", 0))
        mean = seen.get("episode_return_mean", float("nan"))  # over the last 100
        if self.args.until is not None and self.episodes >= 100 and mean >= self.args.until:
            self.hit = self.clock.since_launch()
        return self.hit is not None or self.steps >= self.args.steps


@torch.no_grad()
def score(algorithm) -> float:
    module = algorithm.get_module()
    return greedy_return(
        lambda obs: module.forward_inference({"obs": torch.as_tensor(obs)})["action_dist_inputs"].argmax(-1).numpy()
    )


def main() -> None:
    args, clock = arguments(), Clock()
    torch.set_num_threads(1)
    logging.getLogger("ray").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="rllib-", ignore_cleanup_errors=True) as folder:
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=folder,
                 object_store_memory=100_000_000)  # fmt: skip
        algorithm = config(args).build_algo()
        clock.begin()
        watch = Watch(args, clock)
        while not watch.done(algorithm.train()):
            pass
        rate = clock.rate(watch.steps)
        emit(rate=rate, hit=watch.hit, steps=watch.steps, score=score(algorithm), clock=clock)
        ray.shutdown()


main()
