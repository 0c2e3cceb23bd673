"""DQN's options: weights and priorities against a loop over transitions, and what the buffer hears of them."""

import copy
from dataclasses import replace

import gymnasium as gym
import pytest
import torch

from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.dqn import DQN
from ray_jobs.rl.contract import Alone, Transitions
from ray_jobs.rl.learning import play, setup
from ray_jobs.rl.rollout.runner import ActingAgent
from tests.ray_jobs.rl.gradients import gradient_of
from tests.ray_jobs.rl.scripted import Memory

N, PLAIN = 7, DQN(width=16, max_norm=float("inf"), double=True)
OBS, ACTION = gym.spaces.Box(-1, 1, (2, 3)), gym.spaces.Discrete(4)


def built(algorithm):
    """An agent whose slow copy is not the online network."""
    agent = algorithm.build(OBS, ACTION)
    for p in agent.target.parameters():
        p.data.add_(torch.randn(p.shape) * 0.1)
    return agent


def transitions():
    seen, action = torch.randn(2, N, *OBS.shape), torch.arange(N) % 4
    weight = torch.rand(N) * 0.9 + 0.1
    return Transitions(seen[0], action, 3 * torch.randn(N), seen[1], torch.full((N,), 0.9), weight, {})


def errors(agent, data, double):
    """Q minus its target, one by one."""
    out = []
    for k in range(N):
        after = agent.target(data.next_obs[k].flatten())
        best = agent.q(data.next_obs[k].flatten()).argmax() if double else after.argmax()
        target = data.reward[k] + data.discount[k] * after[best]
        out.append(agent.q(data.obs[k].flatten())[data.action[k]] - target.detach())
    return torch.stack(out)


@pytest.mark.parametrize("double", [False, True])
def test_weighted_errors_are_descended_and_told(double, seeded):
    """Huber's loss of each error times its weight, averaged; priorities are the errors' sizes before the step."""
    algorithm = replace(PLAIN, batch_size=N, priority=0.6, double=double)
    agent, data = built(algorithm), transitions()
    optimizers = algorithm.optimizers(agent)
    error = errors(agent, data, double)
    loss = sum(w * (e**2 / 2 if e.abs() < 1 else e.abs() - 0.5) for w, e in zip(data.weight, error, strict=True)) / N
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(agent.q.parameters()))])
    log = algorithm.update(agent, optimizers, data, Alone(torch.Generator()))
    torch.testing.assert_close(gradient_of(agent.q), expected)
    torch.testing.assert_close(log["priority"], error.detach().abs())
    torch.testing.assert_close(log["td_loss"], loss.detach())


def test_the_target_is_copied_after_every_so_many_updates(seeded):
    """It stands still in between, and is the online network after each fourth update."""
    algorithm = replace(PLAIN, batch_size=N, target_every=4)
    agent = built(algorithm)
    optimizers, kept = algorithm.optimizers(agent), copy.deepcopy(agent.target.state_dict())
    for k in range(1, 9):
        algorithm.update(agent, optimizers, transitions(), Alone(torch.Generator()))
        if k % 4:
            torch.testing.assert_close(agent.target.state_dict(), kept, rtol=0, atol=0)
        else:
            kept = copy.deepcopy(agent.q.state_dict())
            torch.testing.assert_close(agent.target.state_dict(), kept, rtol=0, atol=0)
    assert optimizers["q"].steps == 8


def test_updates_that_are_not_whole_wait():
    """Rounds of 15 steps earn 2.8 updates each, the whole ones of which are made: 2, then 3."""
    algorithm = DQN(
        learning_starts=0, train_every=16, updates_per_train=3, batch_size=4, width=16, buffer_size=64, target_every=2
    )
    t = setup.prepare(
        Play(algorithm, "CartPole-v1", steps=64, envs=3), 0, Alone(torch.Generator()), 0, Memory(), print, bool, "cpu"
    )
    taken = []
    for _ in range(4):
        t.round()
        taken.append(t.learner.optimizers["q"].steps)
    assert taken == [2, 5, 8, 11]


def test_nobody_hears_of_priorities_where_none_are_kept(seeded):
    agent = built(PLAIN)
    log = PLAIN.update(agent, PLAIN.optimizers(agent), transitions(), Alone(torch.Generator()))
    assert set(log) == {"td_loss", "q", "epsilon"}


def test_a_runner_is_sent_q_and_how_often_to_explore(seeded):
    one, other = ActingAgent(built(PLAIN), None), ActingAgent(built(PLAIN), None)
    one.agent.epsilon.fill_(0.25)
    other.unpack(one.pack())
    assert one.pack().size == sum(p.numel() for p in one.agent.q.parameters()) + 1
    assert other.agent.epsilon == 0.25
    obs = torch.randn(3, 6)
    assert torch.equal(other.agent.q(obs), one.agent.q(obs))
    assert not torch.equal(other.agent.target(obs), one.agent.target(obs))


def test_the_buffer_is_told_errors_and_sums_rewards():
    """Cart-pole pays 1 a step: a transition of 3 is worth 1, 1 + gamma or 1 + gamma + gamma^2."""
    algorithm = DQN(
        learning_starts=64,
        train_every=32,
        updates_per_train=8,
        batch_size=16,
        width=16,
        buffer_size=128,
        priority=0.6,
        n_step=3,
    )
    memory = Memory()
    plan = Play(algorithm, "CartPole-v1", steps=256, envs=2, eval_episodes=1)
    play.play(plan, seed=0, run=memory)
    state = memory.states[-1][1]["learners"][0]["learner"]["buffer"]
    assert len(set(state["priorities"]["leaves"].tolist())) > 50
    learner = setup.prepare(
        plan, 0, Alone(torch.Generator()), 0, memory, lambda event: None, lambda: False, "cpu"
    ).learner
    learner.buffer.load(state, torch.device("cpu"))
    data = learner.buffer.sample(torch.Generator().manual_seed(0))
    sums = torch.tensor([1, 1.99, 1 + 0.99 + 0.99**2])
    assert ((data.reward[:, None] - sums).abs().amin(-1) < 1e-5).all()
    assert data.reward.max() > 2.9
    assert data.weight.min() < data.weight.max() == 1
