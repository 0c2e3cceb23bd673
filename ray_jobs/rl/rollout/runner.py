"""An environment runner: plays several environments with a policy and returns the steps in plain numpy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from torch import Tensor, nn

from ray_jobs.envs.env_state import Untrusted, restored, saved, trusted
from ray_jobs.envs.failures import TimedEnv
from ray_jobs.envs.making import learn_of
from ray_jobs.envs.steps import StepResult, VectorEnv
from ray_jobs.envs.vector import vector
from ray_jobs.rl.contract import Algorithm, Gradients
from ray_jobs.rl.fast.packed_weights import PackedWeights
from ray_jobs.rl.networks.nets import image
from ray_jobs.rl.rollout.fragments import Fragment, tensors
from ray_jobs.rl.rollout.normalise import Moments

STEP_LIMIT = 60.0
"""Seconds that environments may take to answer."""
LONGEST = 27_000
"""Steps after which an episode of an evaluation is cut where nothing else is said: Atari's own limit."""
ASK_EVERY = 0.25
"""Seconds between two looks, during an evaluation, at whether to stop."""


@dataclass(frozen=True)
class RunnerSpec:
    """Everything that a runner is made from; it is sent to the runner's process."""

    algorithm: Algorithm
    env: str
    envs: int
    """Environments of this runner."""
    seed: int
    learner: int = 0
    index: int = 0
    """Its index among its learner's runners."""
    attempt: int = 0
    """How many runners there were in this slot before; a replacement draws other random numbers."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    normalize_obs: bool = False
    entry: EnvSpec | None = None
    """Gymnasium's entry of the environment in the driver, whose modules may have registered it."""
    step_limit: float = STEP_LIMIT
    """Seconds without an answer after which the environments count as hanging."""

    def generators(self, *after: int) -> tuple[list[int], torch.Generator]:
        """Seeds of the environments, and the policy's generator: functions of seed, learner, index and attempt alone, and of `after`.

        The seeds are those that one runner of all the learner's environments would have, unless this is a replacement.
        """
        own = np.random.SeedSequence(self.seed, spawn_key=(1 + self.learner, self.index, self.attempt, *after))
        word = int(own.generate_state(1)[0])
        first = 1 if self.attempt else 1 + self.index * self.envs
        source = own if self.attempt else np.random.SeedSequence(self.seed, spawn_key=(1 + self.learner, 0, 0, *after))
        seeds = source.generate_state(first + self.envs)[first:]
        return [int(w) & 0x7FFFFFFF for w in seeds], torch.Generator().manual_seed(word)


class ActingAgent(nn.Module):
    """An agent, and the moments that normalise its observations if they are: what a runner needs from its learner."""

    def __init__(self, agent: nn.Module, norm: Moments | None) -> None:
        super().__init__()
        self.agent, self.norm = agent, norm
        self.packed = PackedWeights(self._acting_weights)

    def _acting_weights(self) -> list[Tensor]:
        """The float32 tensors that it acts by: all of the agent's, or those of its part `acting` where it has one."""
        parts = [getattr(self.agent, "acting", self.agent), *([self.norm] if self.norm else [])]
        found = (x for part in parts for x in part.state_dict(keep_vars=True).values())
        return [x for x in found if x.dtype == torch.float32]

    def _apply(self, *how: Any, **more: Any) -> ActingAgent:
        self.packed.forget()
        return super()._apply(*how, **more)

    def pack(self) -> np.ndarray:
        """Its weights as one vector [P] float32."""
        return self.packed.pack()

    def unpack(self, flat: np.ndarray) -> None:
        """Take over the weights [P] of another."""
        self.packed.unpack(flat)


def build_actor(algorithm: Algorithm, env: VectorEnv, normalize_obs: bool, seed: int) -> ActingAgent:
    """An untrained agent for the environments; its initial weights are a function of the seed alone.

    Raises:
        ValueError: the algorithm cannot handle the spaces, or images are to be normalised.
    """
    if normalize_obs and image(env.obs_space):
        raise ValueError(
            f"Observations of shape {env.obs_space.shape} are images, which networks scale themselves: leave normalize_obs out."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        agent = algorithm.build(env.obs_space, env.action_space)
    return ActingAgent(agent, Moments(env.obs_space.shape) if normalize_obs else None)


class EnvRunner:
    """Plays `spec.envs` environments, in this process or as a Ray actor.

    Raises:
        ValueError: environment, options or spaces do not fit.
        EnvironmentFailed: the environments cannot be reset.
    """

    def __init__(self, spec: RunnerSpec) -> None:
        seeds, self.rng = spec.generators()
        self.spec, self.env = spec, timed_env(spec, spec.envs, f"runner {spec.index}")
        self.actor = build_actor(spec.algorithm, self.env, spec.normalize_obs, spec.seed)
        self.bounds = bounds(self.env.action_space)
        with self.env.within(spec.step_limit):
            self.obs = self.env.reset(seeds)
        self.version, self.begins = -1, True
        self.so_far, self.length = np.zeros(spec.envs), np.zeros(spec.envs, int)

    def play(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """Play `horizon` steps with the weights [P]: a fragment of steps, or of their gradient if the algorithm learns from gradients.

        Raises:
            FloatingPointError: an observation, a reward or a gradient is not finite.
        """
        differentiate = isinstance(self.spec.algorithm.experience, Gradients)
        return (self.gradient if differentiate else self.sample)(weights, version, horizon)

    def gradient(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """Play, and differentiate the algorithm's loss over the steps; the fragment has the gradient and no observations."""
        played = self.sample(weights, version, horizon)
        start = time.perf_counter()
        loss, log = self.spec.algorithm.loss(self.actor.agent, tensors([played], torch.device("cpu")))
        found = torch.autograd.grad(loss, list(self.actor.agent.parameters()))
        flat = torch.cat([g.flatten() for g in found]).numpy()
        if not np.isfinite(flat).all():
            raise FloatingPointError(
                f"The gradient of runner {self.spec.index} is not finite at its step {self.env.steps}: try a smaller lr."
            )
        return played.without_steps(flat, {k: x.detach().numpy() for k, x in log.items()}, time.perf_counter() - start)

    @torch.inference_mode()
    def sample(self, weights: np.ndarray, version: int, horizon: int) -> Fragment:
        """Play `horizon` steps with the weights.

        Raises:
            FloatingPointError: an observation, an action or a reward is not finite.
            EnvironmentFailed: the environments raised or hang.
        """
        if version != self.version:
            self.actor.unpack(weights)
            self.version = version
        rows, last, extras, done, acting, start = [], [], [], ([], []), 0.0, time.perf_counter()
        with self.env.within(self.spec.step_limit):
            for _ in range(horizon):
                before = time.perf_counter()
                action, extra = act(self.spec.algorithm, self.actor, self.obs, True, self.rng)
                acting += time.perf_counter() - before
                obs_before, result = self.obs, self.advance(action, done)
                rows.append((obs_before, action, result.reward, result.terminated, result.truncated))
                extras.append(extra)
                if result.truncated.any():
                    last.append(result.obs[result.truncated])
        obs, *columns = (np.array(x) for x in zip(*rows, strict=True))
        obs, cut = np.concatenate([obs, self.obs[None]]), np.concatenate(last) if last else self.obs[:0]
        self.check(obs, *columns[:2])
        columns[1] = columns[1].astype(np.float32)
        extra_columns = {k: np.array([e[k] for e in extras]) for k in extras[0]}
        stepping = time.perf_counter() - start - acting
        begins, self.begins = self.begins, False
        return Fragment(
            (obs, *columns, cut), extra_columns, version, self.spec.index, *done, acting, stepping, begins=begins
        )

    def advance(self, action: np.ndarray, done: tuple[list[float], list[int]]) -> StepResult:
        """One step with actions [B, *A]; episodes that end are added to `done` (returns, lengths), and their environments restarted."""
        result = self.env.step(np.clip(action, *self.bounds) if self.bounds else action)
        self.so_far += result.gained
        self.length += 1
        self.obs, boundary = result.obs, result.boundary
        if boundary.any():
            over = result.over
            done[0].extend(self.so_far[over].tolist())
            done[1].extend(self.length[over].tolist())
            self.so_far[over], self.length[over] = 0.0, 0
            self.obs = self.env.restart(boundary)
        return result

    def check(self, obs: np.ndarray, action: np.ndarray, reward: np.ndarray) -> None:
        """Refuse values that are not finite, and name the first one: the others may follow from it.

        Raises:
            FloatingPointError: an observation, an action or a reward is not finite.
        """
        seen = {"an observation": obs, "an action": action, "a reward": reward}
        seen = {name: x for name, x in seen.items() if x.dtype.kind == "f"}
        if all(np.isfinite(x).all() for x in seen.values()):
            return
        firsts = {name: np.argwhere(~np.isfinite(x))[:1, 0].tolist() for name, x in seen.items()}
        t, name = min(((at[0], name) for name, at in firsts.items() if at), key=lambda found: found[0])
        where = f"not finite, at step {self.env.steps - len(reward) + t} of runner {self.spec.index}"
        if name == "an action":
            raise FloatingPointError(f"The policy's action is {where}: try a smaller lr.")
        raise FloatingPointError(f"The environment {self.spec.env} gave {name} that is {where}: bound what it returns.")

    def state(self) -> dict[str, Any]:
        """Everything to continue from, in bytes; without the environments where they cannot be saved. 'life' is the attempt."""
        return {"env": self.env.state(), "runner": saved(self.mine()), "life": self.spec.attempt}

    def mine(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, np.ndarray]:
        """Its own state: the observations, the returns and lengths so far, the steps, and the policy's generator."""
        return self.obs, self.so_far, self.length, self.env.steps, self.rng.get_state().numpy()

    def load(self, state: Mapping[str, Any]) -> bool:
        """Continue from a state. False where the environments had to begin new episodes, which differ from the first ones."""
        if state["runner"] is None:  # it had no process yet
            return True
        with trusted(state.get("ours", False)):
            return self.restore(state)

    def restore(self, state: Mapping[str, Any]) -> bool:
        """`load`, of a runner that had a process."""
        with contextlib.suppress(Untrusted):
            obs, so_far, length, self.env.steps, rng = restored(state["runner"], self.mine())
            self.rng.set_state(torch.from_numpy(rng))
            if state["env"] is not None:
                self.env.load(state["env"])
                self.obs, self.so_far, self.length, self.begins = obs, so_far, length, state.get("ahead", False)
                return True
        self.begins = True
        with self.env.within(self.spec.step_limit):
            self.obs = self.env.reset(self.spec.generators(self.env.steps)[0])
        return False


def timed_env(spec: RunnerSpec, n: int, who: str) -> TimedEnv:
    """n environments of a spec, whose failures name them.

    Raises:
        ValueError: environment or options do not fit.
    """
    learn_of(spec.entry)
    return TimedEnv(vector(spec.env, n, spec.env_options), spec.env, who)


def bounds(space: gym.Space) -> tuple[np.ndarray, np.ndarray] | None:
    """The bounds to which actions are clipped before they reach the environment; None for actions that are not in a Box."""
    return (space.low, space.high) if isinstance(space, gym.spaces.Box) else None


def act(
    algorithm: Algorithm, actor: ActingAgent, obs: np.ndarray, explore: bool, rng: torch.Generator
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The policy's actions for obs [B, *O] and its extras."""
    x = torch.from_numpy(obs).float()
    out = algorithm.act(actor.agent, actor.norm(x) if actor.norm else x, explore=explore, rng=rng)
    return out.action.numpy(), {k: v.numpy() for k, v in out.extras.items()}


class EvaluationStopped(Exception):
    """A stop was requested during an evaluation."""


@torch.inference_mode()
def evaluate(
    spec: RunnerSpec,
    actor: ActingAgent,
    episodes: int,
    *,
    longest: int = LONGEST,
    on_cut: Callable[[int], None] = lambda n: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> np.ndarray:
    """Returns [episodes] of greedy episodes, on environments made for them; each environment plays equally many to the end.

    Counting the first `episodes` to finish would favour short ones.

    Args:
        longest: steps after which an episode is cut. Where none ends before, each environment plays only one, and there are fewer returns.
        on_cut: called with how many episodes were cut in a step.
        should_stop: asked a few times a second.

    Raises:
        EnvironmentFailed: the environments raised or hang.
        EvaluationStopped: a stop was requested.
    """
    n = min(episodes, spec.envs)
    seeds, rng = spec.generators()
    env = timed_env(spec, n, "the evaluation")
    limits, so_far, length, out = bounds(env.action_space), np.zeros(n), np.zeros(n, int), [[] for _ in range(n)]
    quota, ended, asked = -(-episodes // n), False, time.monotonic()
    needed = quota
    with env.within(spec.step_limit):
        obs = env.reset(seeds[:n])
        while min(map(len, out)) < needed:
            action, _ = act(spec.algorithm, actor, obs, False, rng)
            result = env.step(np.clip(action, *limits) if limits else action)
            so_far += result.gained
            length += 1
            cut = (length >= longest) & ~result.over
            obs, over = result.obs, result.over | cut
            ended = ended or bool(result.over.any())
            if cut.any():
                on_cut(int(cut.sum()))
                needed = quota if ended else 1
            if over.any():
                for i in np.flatnonzero(over):
                    out[i].append(float(so_far[i]))
                so_far[over], length[over] = 0.0, 0
            if (restarting := result.boundary | cut).any():
                obs = env.restart(restarting)
            if time.monotonic() - asked > ASK_EVERY:
                asked = time.monotonic()
                if should_stop():
                    raise EvaluationStopped
    env.close()
    return np.array([x[:quota] for x in out]).T.flatten()[:episodes]
