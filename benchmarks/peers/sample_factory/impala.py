"""sample-factory's asynchronous PPO (its V-trace fails in 2.1.1) on CartPole-v1: a policy worker, a learner and `--runners` workers."""

import tempfile

import gymnasium
import torch
from sample_factory.algo.runners.runner import AlgoObserver
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import register_env
from sample_factory.train import make_runner
from workers import Pace, arguments, emit


class Watch(AlgoObserver):
    """Keeps the pace and the last mean return."""

    def __init__(self) -> None:
        self.pace = Pace()

    def on_training_step(self, runner, training_iteration_since_resume) -> None:
        """Note the environment steps."""
        self.pace.saw(sum(runner.env_steps.values()))


def make(name: str, cfg, env_config, render_mode=None) -> gymnasium.Env:
    """What its workers, which are spawned, make their environments by."""
    return gymnasium.make(name)


def settings(args, folder: str) -> list[str]:
    """Environments, fragments, discount and network as ours; what else there is from sample-factory's defaults for vectors."""
    chosen = {
        "env": "CartPole-v1", "algo": "APPO", "experiment": "bench", "train_dir": folder, "device": "cpu", "seed": args.seed,
        "num_workers": args.runners, "num_envs_per_worker": args.envs, "worker_num_splits": 2, "rollout": args.horizon,
        "batch_size": args.envs * args.horizon, "num_batches_per_epoch": 1, "num_epochs": 1, "gamma": args.gamma,
        "learning_rate": args.lr, "with_vtrace": False, "use_rnn": False, "recurrence": 1, "exploration_loss_coeff": args.entropy,
        "encoder_mlp_layers": "64 64", "nonlinearity": "tanh", "train_for_env_steps": args.steps, "stats_avg": 100,
        "restart_behavior": "overwrite", "log_to_file": False, "save_every_sec": 100_000, "save_best_every_sec": 100_000,
        "decorrelate_experience_max_seconds": 0, "normalize_input": False, "set_workers_cpu_affinity": False,
    }  # fmt: skip
    return [part for k, v in chosen.items() for part in (f"--{k}", *str(v).split(" "))]


def main() -> None:
    """Measure, and print or record the result."""
    args = arguments()
    torch.set_num_threads(1)
    register_env("CartPole-v1", make)
    with tempfile.TemporaryDirectory(prefix="sample-factory-", ignore_cleanup_errors=True) as folder:
        parser, _ = parse_sf_args(settings(args, folder))
        _, runner = make_runner(parse_full_cfg(parser, settings(args, folder)))
        watch = Watch()
        runner.register_observer(watch)
        runner.init()
        runner.run()
        found = runner.policy_avg_stats.get("reward", [[]])[0]
        emit(watch.pace, float(sum(found) / len(found)) if len(found) else None)


if __name__ == "__main__":
    main()
