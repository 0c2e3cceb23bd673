"""Agents: one pass gives what the parts give, and shared layers start as networks apart would."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy import stats

from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.batches import advantage_batch, values
from ray_jobs.rl.contract import Alone, Steps
from ray_jobs.rl.networks.agents import ActorCritic, ActorCritics, Averaged, Deterministic

OBS = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
IMAGES = gym.spaces.Box(0, 255, (2, 10, 10), np.uint8)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("action", [gym.spaces.Discrete(3), gym.spaces.Box(-1.0, 1.0, (2,), np.float32)])
def test_one_pass_is_both(action, shared, seeded):
    agent, obs = ActorCritic(OBS, action, width=16, shared=shared), torch.randn(5, 7, 4)
    out, value = agent(obs)
    assert out.shape == (5, 7, agent.policy.outputs)
    assert value.shape == (5, 7)
    torch.testing.assert_close(out, agent.logits(obs))
    torch.testing.assert_close(value, agent.value(obs))


@pytest.mark.parametrize("shared", [False, True])
def test_the_policy_begins_indifferent_and_the_value_does_not(shared, seeded):
    """The last layer's gain is 0.01 for the policy and 1 for the value: numbers of a hundredth of the size."""
    agent = ActorCritic(OBS, gym.spaces.Discrete(3), width=64, shared=shared)
    out, value = agent(torch.randn(1000, 4))
    assert 0.2 < value.std() < 3
    assert out.std() < 0.03


def test_shared_layers_learn_from_both(seeded):
    agent = ActorCritic(OBS, gym.spaces.Discrete(3), width=16, shared=True)
    out, value = agent(torch.randn(9, 4))
    first = agent.both.layers[0].weight
    (of_policy,) = torch.autograd.grad(out.square().sum(), first, retain_graph=True)
    (of_value,) = torch.autograd.grad(value.square().sum(), first)
    assert of_policy.abs().sum() > 0
    assert of_value.abs().sum() > 0


@pytest.mark.parametrize("action", [gym.spaces.Discrete(3), gym.spaces.MultiDiscrete([2, 4])])
def test_images_share_their_network(action, seeded):
    """Whole fragments of uint8, and the floats that a runner acts on."""
    agent, obs = ActorCritic(IMAGES, action, width=16), torch.randint(256, (4, 5, 2, 10, 10), dtype=torch.uint8)
    out, value = agent(obs)
    assert out.shape == (4, 5, agent.policy.outputs)
    assert value.shape == (4, 5)
    torch.testing.assert_close(agent.value(obs), value)
    torch.testing.assert_close(agent.logits(obs.float()), out)
    assert agent.act(obs[0], explore=True, rng=torch.Generator())[0].shape == (5, *action.shape)
    assert out.std() < 0.1 * value.std()


def test_vectors_of_bytes_are_floats_to_the_network(seeded):
    agent = ActorCritic(gym.spaces.Box(0, 255, (6,), np.uint8), gym.spaces.Discrete(2), width=8)
    obs = torch.randint(256, (4, 6), dtype=torch.uint8)
    torch.testing.assert_close(agent(obs), agent(obs.float()))


def steps(space, T=5, B=3):
    """Random steps, of which two are cut off and one ends."""
    cut, end = torch.zeros(2, T, B, dtype=torch.bool)
    cut[1, 2] = cut[3, 0] = end[2, 1] = True
    kind = torch.uint8 if space.dtype == np.uint8 else torch.float
    obs, last = (torch.randint(256, (*lead, *space.shape)).to(kind) for lead in ((T + 1, B), (2,)))
    return Steps(obs, torch.randint(2, (T, B)), torch.randn(T, B), end, cut, last, {})


@pytest.mark.parametrize("obs", [OBS, IMAGES], ids=["vectors", "images"])
def test_successors_are_what_truly_came_next(obs, seeded):
    """One step at a time: the next row's value, or the true last observation's where a limit cut."""
    agent = ActorCritic(obs, gym.spaces.Discrete(2), width=8)
    data, k = steps(obs), 0
    v, after = values(agent.value, data)
    for t in range(5):
        for b in range(3):
            cut = bool(data.truncated[t, b])
            came = data.last_obs[k] if cut else data.obs[t + 1, b]
            k += cut
            torch.testing.assert_close(v[t, b], agent.value(data.obs[t, b][None])[0])
            torch.testing.assert_close(after[t, b], agent.value(came[None])[0])


@pytest.mark.parametrize("obs", [OBS, IMAGES], ids=["vectors", "images"])
def test_ppo_thinks_of_its_steps_once(obs, seeded):
    """In one pass and one over what was cut, as in separate ones; and learns from images as from vectors."""
    ppo = PPO(shared=True, width=8, minibatches=1, epochs=1)
    agent = ppo.build(obs, gym.spaces.Discrete(2))
    data, passes = steps(obs), []
    agent.both.register_forward_hook(lambda *_: passes.append(1))
    batch = advantage_batch(agent, data, ppo.gamma, ppo.lam)
    assert len(passes) == 2
    with torch.no_grad():
        torch.testing.assert_close(batch.value, agent.value(data.obs[:-1]).flatten())
        logp = agent.policy.log_prob(agent.logits(data.obs[:-1]), data.action)
    torch.testing.assert_close(batch.logp, logp.flatten())
    before = [p.clone() for p in agent.parameters()]
    ppo.update(agent, ppo.optimizers(agent), data, Alone(torch.Generator()))
    assert all(not torch.equal(p, q) for p, q in zip(before, agent.parameters(), strict=True))


def test_a_deterministic_actor_is_its_network_squashed(seeded):
    """Into unequal bounds, for observations and actions of any shape; the bounds are what it tends to."""
    low, high = np.float32([[-1, 0], [2, -9]]), np.float32([[1, 10], [3, -8]])
    actor = Deterministic(gym.spaces.Box(-1.0, 1.0, (2, 3)), gym.spaces.Box(low, high), width=16)
    obs = torch.randn(4, 5, 2, 3)
    low, high = torch.from_numpy(low), torch.from_numpy(high)
    expected = low + (high - low) * torch.sigmoid(2 * actor.net(obs.flatten(2))).unflatten(-1, (2, 2))
    torch.testing.assert_close(actor(obs), expected)
    actor.net[-1].weight.data.zero_()
    for bias, bound in ((50.0, high), (-50.0, low)):
        actor.net[-1].bias.data.fill_(bias)
        torch.testing.assert_close(actor(obs[0, 0]), bound)


def test_a_deterministic_actor_needs_bounds():
    with pytest.raises(ValueError, match="must be Box with finite bounds"):
        Deterministic(OBS, gym.spaces.Box(-np.inf, np.inf, (2,)), width=8)


def test_it_explores_all_of_the_box_and_then_around_itself(seeded):
    """Kolmogorov and Smirnov on each of two dimensions, before it has begun and after: an error rate of 4e-4 in all. Unclipped here."""
    low, high = np.float32([-1, 2]), np.float32([1, 10])
    actor = Deterministic(OBS, gym.spaces.Box(low, high), width=16)
    obs, rng = torch.randn(1, 4).expand(2000, -1), torch.Generator().manual_seed(0)
    with torch.no_grad():
        even = actor.act(obs, 0.1, explore=True, rng=rng).numpy()
        actor.started.fill_(1.0)
        near = actor.act(obs, 0.1, explore=True, rng=rng).numpy()
        own = actor.act(obs[:1], 0.1, explore=False, rng=rng)
    assert torch.equal(own, actor(obs[:1]))
    for i in range(2):
        assert stats.kstest((even[:, i] - low[i]) / (high[i] - low[i]), "uniform").pvalue > 1e-4
        assert stats.kstest((near[:, i] - own[0, i].item()) / (0.05 * (high[i] - low[i])), "norm").pvalue > 1e-4
    with torch.no_grad():
        wide = actor.act(obs, 5.0, explore=True, rng=rng).numpy()
    assert (wide.min(0) == low).all() and (wide.max(0) == high).all()


def test_only_the_actor_of_a_deterministic_agent_is_sent(seeded):
    agent = ActorCritics(OBS, gym.spaces.Box(-1.0, 1.0, (2,)), width=8, critics=2)
    assert agent.acting is agent.actor
    slow = [*agent.slow_actor.parameters(), *agent.slow_critics.parameters()]
    assert not any(p.requires_grad for p in slow)
    for p in (*agent.actor.parameters(), *agent.critics.parameters()):
        p.data.add_(1.0)
    before = [p.clone() for p in slow]
    agent.update_targets(0.25)
    for p, q in zip(slow, before, strict=True):
        torch.testing.assert_close(p, q + 0.25)
    agent.update_targets(1.0)
    assert torch.equal(agent.slow_critics.weights[0], agent.critics.weights[0])


@pytest.mark.parametrize("actor", ["", "net.0"])
def test_an_average_is_of_the_part_that_acts(actor, seeded):
    """Of three things that it was: weights by hand. It has no gradient, and its numbers are its own."""
    now = Deterministic(OBS, gym.spaces.Box(-1.0, 1.0, (2,), np.float32), width=3)
    agent = Averaged(now, actor)
    part = now if not actor else now.net[0]
    assert agent.acting is part
    was = [[p.detach().clone() for p in part.parameters()]]
    for _ in range(2):
        for p in part.parameters():
            p.data.add_(torch.randn_like(p))
        was.append([p.detach().clone() for p in part.parameters()])
        agent.update_average(0.75)
    for mean, a, b, c in zip(agent.average.parameters(), *was, strict=True):
        torch.testing.assert_close(mean, 0.5625 * a + 0.1875 * b + 0.25 * c)
        assert not mean.requires_grad
    assert {k.partition(".")[0] for k in agent.state_dict()} == {"now", "average"}
