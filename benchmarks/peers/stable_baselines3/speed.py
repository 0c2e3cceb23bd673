"""stable-baselines3's A2C, DQN, SAC and TD3 at the settings of `workloads`."""

import time

import gymnasium
import torch
from protocol import greedy_return
from stable_baselines3 import A2C, DQN, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from workloads import WORK, arguments, emit


def model(name: str, w: dict, seed: int):
    """The algorithm with the shared settings."""
    env = make_vec_env(w["env"], n_envs=w["envs"], seed=seed)
    common = {"gamma": w["gamma"], "learning_rate": w["lr"], "seed": seed, "device": "cpu"}
    if name == "a2c":
        return A2C("MlpPolicy", env, n_steps=w["horizon"], ent_coef=0.0, **common)
    common |= {"batch_size": w["batch"], "buffer_size": w["capacity"], "learning_starts": w["warmup"]}
    common |= {
        "train_freq": w["every"],
        "gradient_steps": w["updates"],
        "policy_kwargs": {"net_arch": [w["width"]] * 2},
    }
    if name == "dqn":
        falling = {"exploration_fraction": w["explore_for"], "exploration_final_eps": w["epsilon"]}
        return DQN("MlpPolicy", env, target_update_interval=10, **falling, **common)
    return {"sac": SAC, "td3": TD3}[name]("MlpPolicy", env, tau=w["tau"], **common)


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    w = WORK[args.algorithm]
    torch.set_num_threads(1)
    made = model(args.algorithm, w, args.seed)
    started = time.perf_counter()
    made.learn(w["steps"])
    seconds = time.perf_counter() - started
    discrete = isinstance(made.action_space, gymnasium.spaces.Discrete)
    score = greedy_return(lambda obs: made.predict(obs, deterministic=True)[0]) if discrete else None
    emit(args.algorithm, made.num_timesteps, seconds, score)


main()
