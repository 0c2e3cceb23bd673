"""stable-baselines3's PPO on CartPole-v1."""

import torch
from protocol import Clock, Returns, arguments, emit, greedy_return
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env


class Watch(BaseCallback):
    """Starts the clock with training, and stops training at the wanted return."""

    def __init__(self, clock: Clock, returns: Returns) -> None:
        super().__init__()
        self.clock, self.returns, self.hit = clock, returns, None

    def _on_training_start(self) -> None:
        self.clock.begin()

    def _on_step(self) -> bool:
        ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        self.returns.last.extend(ended)
        if ended and self.returns.reached():
            self.hit = self.clock.since_launch()
        return self.hit is None


def falling(value: float, anneal: int):
    """A value, or its linear schedule to 0."""
    return (lambda left: left * value) if anneal else value


def main() -> None:
    """Measure, and print or record the result."""
    args, clock = arguments(), Clock()
    torch.set_num_threads(1)
    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=args.envs, seed=args.seed),
        n_steps=args.horizon,
        batch_size=args.minibatch,
        n_epochs=args.epochs,
        gamma=args.gamma,
        gae_lambda=args.lam,
        learning_rate=falling(args.lr, args.anneal),
        clip_range=falling(args.clip, args.anneal),
        ent_coef=args.entropy,
        seed=args.seed,
        device="cpu",
    )
    watch = Watch(clock, Returns(args.until))
    model.learn(args.steps, callback=watch)
    rate = clock.rate(model.num_timesteps)
    score = greedy_return(lambda obs: model.predict(obs, deterministic=True)[0])
    emit(rate=rate, hit=watch.hit, steps=model.num_timesteps, score=score, clock=clock)


main()
