"""D4PG against its definition: distributions moved atom by atom, steps summed, priorities, and returns whose law is known."""

import numpy as np
import pytest
import torch

from ray_jobs.rl.algorithms.off_policy.d4pg import D4PG
from ray_jobs.rl.contract import Alone, Steps, Transitions
from ray_jobs.rl.replay.buffer import ReplayBuffer
from tests.ray_jobs.rl.algorithms.by_hand import (
    BOX,
    OBS,
    action,
    batch,
    chained,
    copies,
    critic,
    same,
    started,
)
from tests.ray_jobs.rl.gradients import gradient_of

WORLD = Alone(torch.Generator())


def softmax(x):
    p = np.exp(x - x.max())
    return p / p.sum()


def moved(p, reward, discount, atoms):
    """The law of r + discount * Z on the atoms: each gets the mass times its hat function, integrated atom by atom."""
    width, out = atoms[1] - atoms[0], np.zeros(len(atoms))
    for mass, z in zip(p, atoms, strict=True):
        at = min(max(reward + discount * z, atoms[0]), atoms[-1])
        for i, atom in enumerate(atoms):
            out[i] += mass * max(0.0, 1 - abs(at - atom) / width)
    return out


def test_targets_are_distributions_moved_atom_by_atom():
    algorithm, data = D4PG(width=8, atoms=5, low=-1.0, high=2.0), batch(20)
    agent, _ = started(algorithm)
    atoms = np.linspace(-1, 2, 5)
    target = algorithm.target(agent, data, torch.from_numpy(atoms).float())
    for i in range(20):
        after = critic(agent.slow_critics, 0, data.next_obs[i], action(agent.slow_actor, data.next_obs[i]))
        expected = moved(softmax(after), float(data.reward[i]), float(data.discount[i]), atoms)
        np.testing.assert_allclose(target[i], expected, atol=1e-5)


def test_several_steps_are_summed_and_what_follows_them_discounted():
    """Through the replay that it asks for: r0 + g r1 + g^2 r2 + g^3 Z, and no further than the end of an episode."""
    algorithm = D4PG(width=8, atoms=5, low=-9.0, high=9.0, n_step=3, gamma=0.9, batch_size=64)
    agent, _ = started(algorithm)
    kept = ReplayBuffer(algorithm.experience, 1, algorithm.gamma)
    obs, ends = torch.randn(9, 1, 3, generator=torch.Generator().manual_seed(1)), torch.zeros(8, 1, dtype=torch.bool)
    ends[5] = True
    kept.add(Steps(obs, torch.zeros(8, 1, 2), torch.arange(8.0)[:, None], ends, ends & False, obs[:0, 0], {}))
    data = kept.sample(torch.Generator().manual_seed(0))
    atoms = np.linspace(-9, 9, 5)
    target = algorithm.target(agent, data, torch.from_numpy(atoms).float())
    seen = set()
    for i in range(64):
        t = next(t for t in range(8) if torch.equal(obs[t, 0], data.obs[i]))
        last = min(t + 2, 5 if t <= 5 else 7)
        reward = sum(0.9 ** (k - t) * k for k in range(t, last + 1))
        discount = 0.0 if last == 5 else 0.9 ** (last + 1 - t)
        after = critic(agent.slow_critics, 0, obs[last + 1, 0], action(agent.slow_actor, obs[last + 1, 0]))
        np.testing.assert_allclose(target[i], moved(softmax(after), reward, discount, atoms), atol=1e-5)
        seen.add(t)
    assert seen == set(range(8))


def test_cross_entropies_are_the_priorities_and_weighed_in_the_loss():
    """Row by row; the actor climbs the mean of the critic's distribution, unweighted."""
    algorithm, data = D4PG(width=8, atoms=5, low=-1.0, high=2.0), batch(12)
    (agent, optimizers), (twin, _) = started(algorithm), started(algorithm)
    support = torch.linspace(-1, 2, 5)
    target = algorithm.target(twin, data, support)
    (logits,) = twin.critics(data.obs, data.action)
    said = [softmax(x) for x in logits.detach().double().numpy()]
    rows = [-sum(float(p) * np.log(q) for p, q in zip(target[i], said[i], strict=True)) for i in range(12)]
    loss = sum(data.weight[i] * -(target[i] @ logits[i].log_softmax(-1)) for i in range(12)) / 12
    expected = torch.autograd.grad(loss, list(twin.critics.parameters()))

    stats = algorithm.update(agent, optimizers, data, WORLD)
    np.testing.assert_allclose(stats["priority"], rows, atol=1e-5)
    torch.testing.assert_close(gradient_of(agent.critics), torch.cat([g.flatten() for g in expected]))
    a = twin.actor(data.obs).detach().requires_grad_()
    mean = agent.critics(data.obs, a)[0].softmax(-1) @ support
    (slope,) = torch.autograd.grad(mean.sum(), a)
    torch.testing.assert_close(gradient_of(agent.actor), -chained(twin.actor, slope, data.obs))
    assert "priority" not in D4PG(width=8, priority=0.0).update(*started(D4PG(width=8)), data, WORLD)


def test_slow_copies_wait_and_then_arrive():
    algorithm = D4PG(width=8, target_every=3)
    agent, optimizers = started(algorithm)
    for k in range(1, 8):
        before = copies(agent.slow_critics)
        algorithm.update(agent, optimizers, batch(16, seed=k), WORLD)
        assert same(agent.slow_critics, before) == (k % 3 != 0)
        if k % 3 == 0:
            assert same(agent.slow_critics, copies(agent.critics))
            assert same(agent.slow_actor, copies(agent.actor))


def test_it_learns_the_law_of_a_return():
    """One state, rewards 0 or 1 by a coin, discount 1/2: returns are even on [0, 2], so their mean is 1 and their variance 1/3.

    What can be learned on atoms is the fixed point of the moved law, found here by iterating it.
    """
    algorithm = D4PG(width=16, atoms=11, low=0.0, high=2.0, gamma=0.5, critic_lr=1e-2, actor_lr=0.0, target_every=30)
    torch.manual_seed(0)
    agent = algorithm.build(OBS, BOX)
    optimizers, here = algorithm.optimizers(agent), torch.zeros(2, 3)
    do = agent.actor(here).detach()
    data = Transitions(here, do, torch.tensor([0.0, 1.0]), here, torch.full((2,), 0.5), torch.ones(2), {})
    for _ in range(600):
        algorithm.update(agent, optimizers, data, WORLD)
    atoms, law = np.linspace(0, 2, 11), np.full(11, 1 / 11)
    for _ in range(60):
        law = (moved(law, 0.0, 0.5, atoms) + moved(law, 1.0, 0.5, atoms)) / 2
    assert law @ atoms == pytest.approx(1)
    assert law @ (atoms - 1) ** 2 == pytest.approx(1 / 3, abs=0.02)
    learned = agent.critics(here, do)[0, 0].softmax(-1).detach().numpy()
    assert np.abs(learned - law).sum() / 2 < 0.01
    assert learned @ atoms == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("wrong", [{"atoms": 1}, {"low": 1.0, "high": 1.0}])
def test_atoms_that_tell_no_returns_apart_are_refused(wrong):
    with pytest.raises(ValueError, match="2 atoms or more"):
        D4PG(**wrong).build(OBS, BOX)
