"""ACER against the exact policy gradient of a small problem, its trust region, its average and Retrace step by step."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from ray_jobs.rl.algorithms.off_policy.acer import ACER
from ray_jobs.rl.contract import Alone, Steps
from ray_jobs.tabular.mdp import MDP, action_values, softmax, state_values

OBS = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)


def made(algorithm, obs=OBS, actions=3):
    agent = algorithm.build(obs, gym.spaces.Discrete(actions))
    return agent, Alone(torch.Generator().manual_seed(0))


def sequences(t, b, seed=0, actions=3):
    """Noise, with ends of both kinds and a policy of its own."""
    g = torch.Generator().manual_seed(seed)
    over = torch.rand(2, t, b, generator=g) < 0.15
    terminated, truncated = over[0], over[1] & ~over[0]
    return Steps(
        torch.randn(t + 1, b, 3, generator=g),
        torch.randint(actions, (t, b), generator=g),
        torch.randn(t, b, generator=g),
        terminated,
        truncated,
        torch.randn(int(truncated.sum()), 3, generator=g),
        {"logp": torch.randn(t, b, actions, generator=g).log_softmax(-1)},
    )


def every_sequence(mdp, behaviour, slots, nexts):
    """All sequences of two steps as Steps [2, B], each as often as it is likely: actions are shares of `slots`, states of `nexts`."""
    states, n = len(mdp.start), nexts.shape[-1]
    chosen = np.stack([np.repeat(np.arange(3), np.rint(row * slots).astype(int)) for row in behaviour])
    s, i, j, k, m = (x.ravel() for x in np.indices((states, slots, n, slots, n)))
    a = chosen[s, i]
    s1 = nexts[s, a, j]
    a1 = chosen[s1, k]
    s2 = nexts[s1, a1, m]
    eye, at = torch.eye(states), np.stack([s, s1])
    never = torch.zeros(at.shape, dtype=torch.bool)
    reward = torch.from_numpy(np.stack([mdp.reward[s, a], mdp.reward[s1, a1]])).float()
    mu = torch.from_numpy(np.log(behaviour)).float()
    obs, action = eye[np.stack([s, s1, s2])], torch.from_numpy(np.stack([a, a1]))
    return Steps(obs, action, reward, never, never, eye[:0], {"logp": mu[at]})


@pytest.mark.parametrize("c", [0.7, 10.0])
def test_with_an_exact_critic_the_update_is_the_policy_gradient(c, seeded):
    """Over all sequences of two steps, enumerated, by another policy: no sampling error. Whatever c cuts, the gradient in the logits
    is the mean over both steps' states of pi (Q - V)."""
    rng, states, each, slots, gamma = np.random.default_rng(0), 4, 3, 8, 0.8
    nexts = rng.integers(states, size=(states, 3, each))
    mdp = MDP(np.eye(states)[nexts].mean(2), rng.normal(size=(states, 3)), np.full(states, 1 / states), gamma)
    behaviour = np.stack([rng.permutation([1, 2, 5]) / slots for _ in range(states)])
    logits = rng.normal(size=(states, 3))
    pi = softmax(logits)
    q, v = action_values(mdp, pi), state_values(mdp, pi)
    algorithm = ACER(gamma=gamma, c=c, delta=float("inf"), entropy_weight=0.0, max_norm=float("inf"))
    agent, world = made(algorithm, gym.spaces.Box(0, 1, (states,), np.float32))
    for name, table in (("actor", logits), ("critic", q)):
        net = nn.Linear(states, 3, bias=False)
        net.weight.data.copy_(torch.from_numpy(table.T))
        setattr(agent.now, name, net)
    agent.average = copy.deepcopy(agent.now)
    optimizers = algorithm.optimizers(agent)
    log = algorithm.update(agent, optimizers, every_sequence(mdp, behaviour, slots, nexts), world)
    then = mdp.start @ np.einsum("sa,sat->st", behaviour, mdp.transition)
    exact = ((mdp.start + then) / 2)[:, None] * pi * (q - v[:, None])
    np.testing.assert_allclose(-agent.now.actor.weight.grad.t().numpy(), exact, atol=2e-6)
    assert abs(log["ratio"].item() - 1) < 1e-5  # its mean is 1 where all actions are enumerated


def test_the_target_is_algorithm_2(seeded):
    """Retrace from the last step to the first, by the paper's recursion, with ends of both kinds."""
    algorithm = ACER(gamma=0.9)
    agent, _ = made(algorithm)
    data = sequences(6, 4)
    with torch.no_grad():
        out, q = agent.now(data.obs)
        out = out * 50  # the untrained policy is too even to cut anything
        value, target, ratio = algorithm.targets(agent, data, out, q)
        cut_out, cut_q = agent.now(data.last_obs)
    cuts = iter(range(len(data.last_obs)))
    at_cut = {tuple(x): next(cuts) for x in data.truncated.nonzero().tolist()}
    pi, mu = out.softmax(-1), data.extras["logp"].exp()
    v = (pi * q).sum(-1)
    assert (ratio > 1).any()
    for b in range(4):
        later = v[6, b].item()
        for t in reversed(range(6)):
            a = data.action[t, b]
            if data.terminated[t, b]:
                later = 0.0
            if data.truncated[t, b]:
                k = at_cut[t, b]
                later = (cut_out[k].softmax(-1) * cut_q[k]).sum().item()
            ret = data.reward[t, b].item() + 0.9 * later
            rho = (pi[t, b, a] / mu[t, b, a]).item()
            assert target[t, b].item() == pytest.approx(ret, abs=1e-4)
            assert ratio[t, b].item() == pytest.approx(rho, rel=1e-4)
            assert value[t, b].item() == pytest.approx(v[t, b].item(), abs=1e-6)
            later = min(1.0, rho) * (ret - q[t, b, a].item()) + v[t, b].item()


def test_no_step_leaves_the_trust_region(seeded):
    """With k by autograd from KL(average || now): k.z <= delta in every row, and rows inside stay as they were."""
    free, tight = (ACER(delta=d) for d in (float("inf"), 0.02))
    agent, _ = made(tight)
    for p in agent.average.parameters():
        p.data.add_(torch.randn_like(p))
    data = sequences(8, 50)
    with torch.no_grad():
        out, q = agent.now(data.obs)
        value, target, _ = tight.targets(agent, data, out, q)
        average = agent.average.logits(data.obs[:-1]).log_softmax(-1)
    g, z = (x.step(agent, data, out[:-1].clone(), q[:-1], value, target) for x in (free, tight))
    leaf = out[:-1].clone().requires_grad_()
    kl = (average.exp() * (average - leaf.log_softmax(-1))).sum()
    (k,) = torch.autograd.grad(kl, leaf)
    outside = (k * g).sum(-1) > 0.02
    assert 50 < outside.sum() < 350
    assert ((k * z).sum(-1) <= 0.02 + 1e-5).all()
    torch.testing.assert_close((k * z).sum(-1)[outside], torch.full((int(outside.sum()),), 0.02), atol=1e-5, rtol=0)
    assert torch.equal(z[~outside], g[~outside])


def test_the_average_follows_its_recursion(seeded):
    """average <- decay average + (1 - decay) now, after every update."""
    algorithm = ACER(decay=0.9)
    agent, world = made(algorithm)
    optimizers = algorithm.optimizers(agent)
    expected = [p.clone() for p in agent.average.parameters()]
    for seed in range(4):
        algorithm.update(agent, optimizers, sequences(5, 4, seed), world)
        now = agent.now.parameters()
        expected = [0.9 * x + 0.1 * p.detach() for x, p in zip(expected, now, strict=True)]
    for p, x in zip(agent.average.parameters(), expected, strict=True):
        torch.testing.assert_close(p, x)


def test_what_was_just_played_has_weight_one(seeded):
    """`act` keeps log mu of all actions; before any update it is log pi."""
    algorithm = ACER()
    agent, world = made(algorithm)
    data = sequences(5, 4)
    with torch.no_grad():
        acts = [algorithm.act(agent, x, explore=True, rng=world.rng) for x in data.obs[:-1]]
    mine = torch.stack([x.action for x in acts]), {"logp": torch.stack([x.extras["logp"] for x in acts])}
    out, q = agent.now(data.obs)
    ratio = algorithm.targets(agent, data._replace(action=mine[0], extras=mine[1]), out, q)[2]
    torch.testing.assert_close(ratio, torch.ones(5, 4))


def test_images_share_their_layers(seeded):
    obs = gym.spaces.Box(0, 255, (1, 10, 10), np.uint8)
    algorithm = ACER()
    agent, world = made(algorithm, obs)
    data = sequences(3, 2)
    pictures = torch.randint(0, 255, (4, 2, 1, 10, 10), dtype=torch.uint8)
    cut = torch.randint(0, 255, (len(data.last_obs), 1, 10, 10), dtype=torch.uint8)
    log = algorithm.update(agent, algorithm.optimizers(agent), data._replace(obs=pictures, last_obs=cut), world)
    assert all(torch.isfinite(x) for x in log.values())
