"""SVPG's step against policies taken one by one and Stein's double sum, its limits, who plays what, and that it keeps apart."""

import copy
import math
import statistics
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.nn.utils import vector_to_parameters

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.policy_gradient.svpg import SVPG
from ray_jobs.rl.learning import play, setup
from ray_jobs.rl.maths import stein
from ray_jobs.rl.networks.nets import ConvNet, plain_tanh
from ray_jobs.rl.networks.policies import Gaussian, policy_for
from tests.ray_jobs.rl.algorithms.invented import (
    OBS,
    SPACES,
    advantages,
    alone,
    built,
    columns,
    invented,
    standardised,
)
from tests.ray_jobs.rl.gradients import gradient_of
from tests.ray_jobs.rl.scripted import Memory

SMALL = SVPG(particles=3, temperature=0.3, width=3, gamma=0.875, lam=0.75)
TURNS = [0, 1, 2, 2, 1, 0]
"""Who plays which environment."""
SCREEN = gym.spaces.Box(0, 255, (2, 4, 3), np.uint8)
views = pytest.mark.parametrize("view", [OBS, SCREEN], ids=["vector", "image"])


def played(kind, seed=0, view=OBS):
    turns = torch.tensor(TURNS).expand(5, 6)
    data = invented(SPACES[kind], T=5, B=6, seed=seed, shape=view.shape, extras={"particle": turns})
    return data if view is OBS else data._replace(obs=100 * data.obs.abs(), last_obs=100 * data.last_obs.abs())


def single(theta, outputs, view=OBS):
    """One particle's network, by itself."""
    net = plain_tanh([2, 3, 3, outputs]).double() if view is OBS else ConvNet(view.shape, outputs).double()
    vector_to_parameters(theta, net.parameters())
    return net


def policies(agent, kind, view=OBS):
    """Each particle's policy and network, and its critic, by themselves."""
    for i in range(3):
        policy = policy_for(SPACES[kind]).double()
        if isinstance(policy, Gaussian):
            policy.log_std.data = agent.acting.policy.log_std.data[i, 0].clone()
        actor = single(agent.acting.net.theta.data[i].clone(), policy.outputs, view)
        yield policy, actor, single(agent.critic.theta.data[i].clone(), 1, view)


def slow_gradients(algorithm, agent, data, kind, view=OBS):
    """Each particle's parameters and the gradient of its mean log pi times advantage, [3, P]."""
    parts = [columns(data, [b for b, who in enumerate(TURNS) if who == i]) for i in range(3)]
    each = list(policies(agent, kind, view))
    with torch.no_grad():
        found = [
            advantages(d, lambda x, c=critic: c(x)[:, 0], algorithm.gamma, algorithm.lam)[0]
            for d, (_, _, critic) in zip(parts, each, strict=True)
        ]
    scaled = standardised(torch.stack(found))
    thetas, slopes = [], []
    for d, (policy, actor, _), advantage in zip(parts, each, scaled, strict=True):
        parameters = [*policy.parameters(), *actor.parameters()]
        gain = (policy.log_prob(actor(d.obs[:-1]), d.action) * advantage).mean()
        slopes.append(torch.cat([g.flatten() for g in torch.autograd.grad(gain, parameters)]))
        thetas.append(torch.cat([p.detach().flatten() for p in parameters]))
    return torch.stack(thetas), torch.stack(slopes)


def slow_direction(theta, grad, temperature):
    """Liu et al. 2017, equation 10, as its double sum, with the median's bandwidth."""
    n = len(theta)
    apart = [float((theta[i] - theta[j]).norm()) for i in range(n) for j in range(i)]
    h, out = statistics.median_low(apart) ** 2 / math.log(n + 1), torch.zeros_like(theta)
    for i in range(n):
        for j in range(n):
            k = math.exp(-float((theta[j] - theta[i]).square().sum()) / h)
            out[i] += (grad[j] / temperature * k - 2 / h * (theta[j] - theta[i]) * k) / n
    return out


def ascent(agent):
    """Where the last update sent each particle, [n, P]."""
    return -torch.cat([p.grad.flatten(1) for p in agent.acting.parameters()], 1)


def updated(algorithm, kind, seed=0, view=OBS):
    """An agent before and after one update of invented steps."""
    agent, data = built(algorithm, SPACES[kind], view), played(kind, seed, view)
    before, optimizers = copy.deepcopy(agent), algorithm.optimizers(agent)
    algorithm.update(agent, optimizers, data, alone())
    return before, agent, data


@views
@pytest.mark.parametrize("kind", SPACES)
def test_particles_go_where_stein_sends_them(kind, view):
    """By particles taken one by one, environments in no order; and each number moves by Adam's first step."""
    before, agent, data = updated(SMALL, kind, view=view)
    theta, grad = slow_gradients(SMALL, before, data, kind, view)
    torch.testing.assert_close(ascent(agent), slow_direction(theta, grad, SMALL.temperature))
    moved = torch.cat([p.detach().flatten(1) for p in agent.acting.parameters()], 1) - theta
    slope = ascent(agent)
    torch.testing.assert_close(moved, SMALL.lr * slope / (slope.abs() + 1e-8), rtol=1e-3, atol=1e-9)


@views
@pytest.mark.parametrize("kind", SPACES)
def test_each_critic_learns_from_its_own_steps(kind, view):
    before, agent, data = updated(SMALL, kind, view=view)
    for i, (_, _, critic) in enumerate(policies(before, kind, view)):
        mine = columns(data, [b for b, who in enumerate(TURNS) if who == i])
        with torch.no_grad():
            advantage, value = advantages(mine, lambda x, c=critic: c(x)[:, 0], SMALL.gamma, SMALL.lam)
        (critic(mine.obs[:-1])[..., 0] - (advantage + value)).square().mean().backward()
        torch.testing.assert_close(agent.critic.theta.grad[i], gradient_of(critic))


def test_hot_particles_only_keep_apart_and_cold_ones_only_climb():
    before, hot, data = updated(replace(SMALL, temperature=1e9), "discrete")
    theta, grad = slow_gradients(SMALL, before, data, "discrete")
    kernel, repulsion = stein.rbf(theta)
    torch.testing.assert_close(ascent(hot), repulsion / 3)
    _, cold, _ = updated(replace(SMALL, temperature=1e-9), "discrete")
    torch.testing.assert_close(1e-9 * ascent(cold), kernel @ grad / 3)


def test_one_particle_is_the_plain_policy_gradient():
    """At any temperature, which only scales it."""
    algorithm = replace(SMALL, particles=1, temperature=0.01)
    agent = built(algorithm, SPACES["discrete"])
    data = invented(SPACES["discrete"], T=5, B=2, extras={"particle": torch.zeros(5, 2, dtype=torch.int64)})
    actor, critic = single(agent.acting.net.theta.data[0].clone(), 3), single(agent.critic.theta.data[0].clone(), 1)
    algorithm.update(agent, algorithm.optimizers(agent), data, alone())
    with torch.no_grad():
        advantage = standardised(advantages(data, lambda x: critic(x)[:, 0], 0.875, 0.75)[0])
    logp = actor(data.obs[:-1]).log_softmax(-1).gather(-1, data.action[..., None])[..., 0]
    (logp * advantage).mean().backward()
    torch.testing.assert_close(0.01 * ascent(agent)[0], gradient_of(actor))


@views
@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("B", [1, 2, 3, 7])
def test_who_plays_what(kind, B, view):
    """Environment i is played by particle i modulo 3, however many there are; greedy ones all by the best."""
    agent, obs = built(SMALL, SPACES[kind], view), torch.randn(B, *view.shape, dtype=torch.float64)
    agent.acting.policy.sample = lambda out, rng: agent.acting.policy.mode(out)
    agent.acting.earned[:], agent.acting.ended[:] = torch.tensor([1.0, 6.0, 5.0]), torch.tensor([1.0, 3.0, 2.0])
    with torch.no_grad():
        act = SMALL.act(agent, obs, explore=True, rng=torch.Generator())
        greedy = SMALL.act(agent, obs, explore=False, rng=torch.Generator()).action
        alone = [policy.mode(actor(obs)) for policy, actor, _ in policies(agent, kind, view)]
    assert act.extras["particle"].tolist() == [i % 3 for i in range(B)]
    torch.testing.assert_close(act.action, torch.stack([alone[i % 3][i] for i in range(B)]))
    torch.testing.assert_close(greedy, alone[2])


def test_shares_that_are_not_even_are_refused():
    agent = built(SMALL, SPACES["discrete"])
    data = invented(SPACES["discrete"], B=4, extras={"particle": torch.tensor([0, 1, 2, 0]).expand(6, 4)})
    with pytest.raises(UsageError, match="SVPG's 3 particles must play equally many"):
        SMALL.update(agent, SMALL.optimizers(agent), data, alone())


def test_pong_is_trained_from_its_screen():
    """Three updates of each of two particles, which begin and stay apart; all layers' weights move."""
    pytest.importorskip("ale_py")
    algorithm, memory = SVPG(particles=2, horizon=8), Memory()
    options = {"max_num_frames_per_episode": 64}
    plan = Play(algorithm, "ALE/Pong-v5", steps=48, envs=2, eval_episodes=2, env_options=options, log_every=16)
    result = play.play(plan, seed=0, run=memory)
    assert -21 <= result["episode_return"] <= 21
    learner, begun = memory.states[-1][1]["learners"][0]["learner"], setup.untrained(plan, 0).state_dict()
    assert learner["version"] == 3
    for name in ("agent.acting.net.theta", "agent.critic.theta"):
        theta, start = learner["actor"][name], begun[name]
        assert theta.shape[0] == 2
        assert (theta != start).float().mean() > 0.5
        assert not torch.equal(theta[0], theta[1])


class Fares(gym.Env):
    """Pays its action at each step, and ends at each with probability 1/4."""

    observation_space = OBS
    action_space = SPACES["discrete"]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low, {}

    def step(self, action):
        return self.observation_space.low, float(action), bool(self.np_random.random() < 0.25), False, {}


def test_the_best_particle_is_found():
    """One earns 2 in each of its 2048 steps, the other nothing, and both end 512 times, within four binomial deviations of 19.6."""
    algorithm = SVPG(particles=2, horizon=16, memory=1.0, lr=1e-9)
    plan = Play(algorithm, "tests.ray_jobs.rl.algorithms.test_svpg:Fares", steps=4096, envs=4, eval_episodes=1)
    run = Memory()
    real = SVPG.build

    def biased(self, obs, action):
        agent = real(self, obs, action)
        with torch.no_grad():  # the last layer's biases: particle 0 always takes action 0, particle 1 action 2
            agent.acting.net.theta[0, -3:] = torch.tensor([1e3, 0.0, 0.0])
            agent.acting.net.theta[1, -3:] = torch.tensor([0.0, 0.0, 1e3])
        return agent

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SVPG, "build", biased)
        play.play(plan, seed=0, run=run)
    agent = run.states[-1][1]["learners"][0]["learner"]["actor"]
    earned, ended = agent["agent.acting.earned"], agent["agent.acting.ended"]
    assert earned.tolist() == [0, 4096]
    assert all(abs(n - 512) < 79 for n in ended.tolist())


def distance(temperature):
    """How far apart particles from nearly one place are on average after 60 updates on the cart-pole."""
    algorithm, run = SVPG(particles=4, temperature=temperature, width=16, horizon=16), Memory()
    real = SVPG.build

    def together(self, obs, action):
        agent = real(self, obs, action)
        with torch.no_grad():
            agent.acting.net.theta[:] = agent.acting.net.theta[0] + 1e-2 * torch.randn_like(agent.acting.net.theta)
        return agent

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SVPG, "build", together)
        play.play(Play(algorithm, "CartPole-v1", steps=60 * 16 * 8, envs=8, eval_episodes=1), seed=0, run=run)
    return run.lines[0][1]["distance"], run.lines[-1][1]["distance"]


def test_particles_from_one_place_part():
    """At a temperature of nothing their gradients, near the same, keep them together; at 1 they end more than three times as far apart."""
    (_, cold), (_, hot) = distance(1e-6), distance(1.0)
    assert hot > 3 * cold, (hot, cold)
