"""Small environments whose every number is known, and small algorithms to play them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.contract import Act, Fresh, Gradients, Replay
from ray_jobs.rl.optim.step import adam, apply_gradient


class Count(gym.Env):
    """Observes (episode number, steps so far); terminates after 3 steps in even episodes, is truncated after 5 in odd ones."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.episode, self.t = -1, 0

    def look(self) -> np.ndarray:
        return np.array([self.episode, self.t], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self.look(), {}

    def step(self, action):
        self.t += 1
        even = self.episode % 2 == 0
        return self.look(), 10.0 * self.episode + self.t, even and self.t == 3, not even and self.t == 5, {}


class Endless(Count):
    """No episode of it ever ends; each step pays 1, and `stop`, where it is given, is made at the step `at`."""

    def __init__(self, at: int = 0, stop: str = "") -> None:
        super().__init__()
        self.at, self.stop = at, stop

    def step(self, action):
        obs, *_ = super().step(action)
        if self.t == self.at:
            Path(self.stop).touch()
        return obs, 1.0, False, False, {}


class Broken(Count):
    """Its reward is NaN at the seventh step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        obs, reward, *rest = super().step(action)
        return obs, (float("nan") if self.steps == 7 else reward), *rest


class Deadly(Count):
    """Its process dies, once only among all that share `mark`, at the tenth step. `how`: 'exit', 'kill' or 'hang'."""

    def __init__(self, mark: str, how: str = "exit") -> None:
        super().__init__()
        self.mark, self.how, self.steps = mark, how, 0

    def step(self, action):
        self.steps += 1
        if self.steps == 10 and first_to_make(self.mark):
            if self.how == "exit":
                os._exit(1)
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(3600)
        return super().step(action)


class Mortal(Count):
    """Each of its processes dies at the second step."""

    def step(self, action):
        if self.t == 1:
            os._exit(1)
        return super().step(action)


class Doomed(Count):
    """Hangs in its tenth step where it plays on `node`, having made the file `mark`.

    All who share it leave their first step in `births`; from their `until`-th on they wait for a third to do so.
    """

    def __init__(self, node: str, mark: str, births: str, until: int) -> None:
        super().__init__()
        self.node, self.mark, self.births, self.until, self.steps = node, Path(mark), Path(births), until, 0

    def step(self, action):
        import ray

        self.steps += 1
        if self.steps == 1:
            with self.births.open("a") as file:
                file.write("born\n")
        if self.steps == 10 and ray.get_runtime_context().get_node_id() == self.node:
            self.mark.touch()
            time.sleep(3600)
        while self.steps >= self.until and len(self.births.read_text().splitlines()) < 3:
            time.sleep(0.01)
        return super().step(action)


def first_to_make(path: str) -> bool:
    """Whether this call made the file; of several processes that try at once, only one did."""
    try:
        open(path, "x").close()
    except FileExistsError:
        return False
    return True


class Unpicklable(Count):
    """Refuses to be saved midway, as Box2D's worlds do."""

    def __reduce__(self):
        raise TypeError("cannot pickle a world")


class Forgetful(Count, gym.utils.EzPickle):
    """Pickles no more than the arguments it was made from, as Box2D's and MuJoCo's environments do."""

    def __init__(self) -> None:
        gym.utils.EzPickle.__init__(self)
        super().__init__()


class Double(Count):
    """Observes (episode, steps so far) / 3 in doubles."""

    observation_space = gym.spaces.Box(-np.inf, 1e300, (2,), np.float64)

    def look(self) -> np.ndarray:
        return np.array([self.episode, self.t]) / 3


class Continuous(Count):
    """Box actions; the reward tells what arrived."""

    action_space = gym.spaces.Box(-0.5, 0.5, (3,), np.float32)

    def step(self, action):
        obs, _, *rest = super().step(0)
        return obs, float(np.abs(action).max()), *rest


@dataclass(frozen=True)
class Still:
    """Always action 0, and a loss that moves a single weight by its data's mean."""

    horizon: int = 8
    gamma: float = 0.9
    poison: int = -1
    """The update whose loss is NaN."""

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon)

    def build(self, obs, action):
        return torch.nn.Linear(int(np.prod(obs.shape)), 1)

    def optimizers(self, agent):
        return {"all": adam(agent, 1e-2)}

    def act(self, agent, obs, *, explore, rng):
        return Act(torch.zeros(len(obs), dtype=torch.int64), {"seen": obs.clone()})

    def update(self, agent, optimizers, data, world):
        return {
            "loss": torch.tensor(float("nan") if world.progress * 100 > self.poison >= 0 else data.reward.mean().item())
        }


class Linear(torch.nn.Module):
    """Two logits and a value, each linear in what is seen."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.out = torch.nn.Linear(inputs, 3)


@dataclass(frozen=True)
class Slope:
    """Learns from gradients that its runners send: the plain policy gradient of the rewards themselves."""

    horizon: int = 8
    gamma: float = 0.9
    lr: float = 1e-2

    @property
    def experience(self) -> Gradients:
        return Gradients(self.horizon)

    def build(self, obs, action):
        return Linear(int(np.prod(obs.shape)))

    def optimizers(self, agent):
        return {"all": adam(agent, self.lr)}

    def act(self, agent, obs, *, explore, rng):
        chance = agent.out(obs)[:, :2].softmax(-1)
        return Act(torch.multinomial(chance, 1, generator=rng)[:, 0] if explore else chance.argmax(-1), {})

    def loss(self, agent, data):
        out = agent.out(data.obs[:-1])
        logp = out[..., :2].log_softmax(-1).gather(-1, data.action[..., None])[..., 0]
        loss = (out[..., 2] - data.reward).square().mean() - (logp * data.reward).mean()
        return loss, {"loss": loss}

    def update(self, agent, optimizers, data, world):
        optimizers["all"].gradient.copy_(data.flat)
        apply_gradient(optimizers["all"], world)
        return dict(data.log)


@dataclass(frozen=True)
class Pensive(Still):
    """Looks back at every third update; each of its updates and reflections is a number to log."""

    @property
    def experience(self) -> Fresh:
        return Fresh(self.horizon, keep=3)

    def reflect(self, agent, optimizers, kept, world):
        return {"looked_back_on": torch.cat([x.reward.flatten() for x in kept]).sum()}


@dataclass(frozen=True)
class Hasty(DQN):
    """Its runners wait for nobody."""

    @property
    def experience(self) -> Replay:
        return replace(super().experience, asynchronous=True)


class Memory:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.lines, self.states = [], []

    def log(self, step, metrics):
        self.lines.append((step, dict(metrics)))

    def save(self, step, state):
        self.states.append((step, state))

    def rewind(self, step):
        self.lines = [line for line in self.lines if line[0] <= step]


@dataclass(frozen=True)
class Chance(Still):
    """Actions drawn evenly from a Discrete or MultiDiscrete space; greedy ones too."""

    def build(self, obs, action):
        agent = super().build(obs, action)
        agent.counts = torch.tensor(action.nvec if isinstance(action, gym.spaces.MultiDiscrete) else action.n)
        return agent

    def act(self, agent, obs, *, explore, rng):
        u = torch.rand((len(obs), *agent.counts.shape), generator=rng)
        return Act((u * agent.counts).long(), {})


class Raises(Count):
    """Raises in its seventh 'step', its second 'reset' or its first, its 'birth', as `what` says."""

    def __init__(self, what: str = "step") -> None:
        super().__init__()
        self.what, self.steps = what, 0

    def step(self, action):
        self.steps += 1
        if self.what == "step" and self.steps == 7:
            raise KeyError("lost\nthe key")
        return super().step(action)

    def reset(self, **more):
        if self.episode == {"birth": -1, "reset": 0}.get(self.what):
            raise OSError("no world left")
        return super().reset(**more)


class Fickle(Raises):
    """Its seventh step raises once only among all that share `mark`."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark

    def step(self, action):
        if self.steps == 6 and not first_to_make(self.mark):
            return Count.step(self, action)
        return super().step(action)


class Scarce(Count):
    """Only one can be made of all that share `mark`."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        if not first_to_make(mark):
            raise ValueError("There is one world only.")


class Hangs(Count):
    """Its fourth step waits until it is interrupted."""

    def step(self, action):
        if self.episode == 1:
            time.sleep(600)
        return super().step(action)


class Odd(Count):
    """Does one thing wrong, as `what` says: hangs or raises when it is made, hangs in its reset, or shows the wrong shape."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        if what == "hangs at birth":
            time.sleep(600)
        if what == "raises at birth":
            raise RuntimeError("no\nlicence.")
        if what == "lacks a package":
            raise ImportError("No module named 'physics'")

    def look(self) -> np.ndarray:
        wide = {"shows too little": 1, "shows too much": 3}.get(self.what, 2)
        return np.zeros(wide, np.float32)

    def reset(self, **more):
        if self.what == "hangs in its reset":
            time.sleep(600)
        seen, _ = super().reset(**more)
        return seen if self.what == "is of the old kind" else (seen, {})


@dataclass(frozen=True)
class Lost(Still):
    """Its second action is NaN, and so is what the environment says to it."""

    def act(self, agent, obs, *, explore, rng):
        return Act(torch.full((len(obs), 3), float("nan") if (obs[:, 1] == 1).any() else 0.0), {})


class Echo(Continuous):
    """Observes what arrived as its action."""

    arrived = np.zeros(3, np.float32)

    def look(self) -> np.ndarray:
        return np.array([self.arrived[0], self.t], np.float32)

    def step(self, action):
        self.arrived = np.array(action)
        return super().step(action)
