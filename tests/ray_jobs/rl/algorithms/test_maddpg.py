"""MADDPG against slow loops over agents and rows, and by gradients: who sees what, and whose action moves whom."""

import copy
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy import stats

from ray_jobs.envs.multi_agent import Padded, joint
from ray_jobs.envs.vector import vector
from ray_jobs.recipe.plan import Play
from ray_jobs.rl.algorithms.off_policy.maddpg import MADDPG
from ray_jobs.rl.contract import Alone, Transitions
from ray_jobs.rl.learning import play, setup
from ray_jobs.rl.rollout.runner import EnvRunner, RunnerSpec
from tests.ray_jobs.rl.gradients import gradient_of
from tests.ray_jobs.rl.scripted import Memory

ADVERSARY = "mpe2.simple_adversary_v3:parallel_env"
B, N, SIZES = 6, 3, (3, 5, 4)
OBS = Padded([gym.spaces.Box(-1, 1, (n,)) for n in SIZES])
BOXES = [gym.spaces.Box(low, high, (n,)) for low, high, n in ((-2, 1, 1), (0, 3, 3), (-1, 1, 2))]
KINDS = {"discrete": (joint([gym.spaces.Discrete(n) for n in (2, 4, 3)]), (2, 4, 3)), "box": (Padded(BOXES), (1, 3, 2))}
kinds = pytest.mark.parametrize(("action", "widths"), KINDS.values(), ids=KINDS)
ensembles = pytest.mark.parametrize("ensemble", [1, 2])
PLAIN = MADDPG(width=16, max_norm=float("inf"), logit_penalty=0.1, actor_lr=0.01, critic_lr=0.01, tau=0.3)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def played(action, ensemble=1):
    """Replayed transitions; numbers that do not count are there, and large."""
    seen = [torch.randn(B, *OBS.shape, generator=rng(k)) * 3 for k in range(2)]
    if isinstance(action, gym.spaces.MultiDiscrete):
        acts = torch.tensor(np.random.default_rng(0).integers(0, action.nvec, (B, N)))
    else:
        acts = torch.tensor(np.random.default_rng(0).uniform(action.low, action.high, (B, *action.shape))).float()
    discount = torch.tensor([0.9] * (B - 1) + [0.0])
    extras = {"member": torch.randint(ensemble, (B, N), generator=rng(5))} if ensemble > 1 else {}
    return Transitions(seen[0], acts, torch.randn(B, N, generator=rng(3)), seen[1], discount, torch.ones(B), extras)


def sensitivity(of, to):
    """[N, N]: the largest derivative of each agent's outputs of `of` [N, ...] by each agent's inputs `to` [B, N, L], [N, N, L]."""
    weights = torch.randn(of[0].shape, generator=rng(7))
    found = [torch.autograd.grad((x * weights).sum(), to, retain_graph=True, allow_unused=True)[0] for x in of]
    return torch.stack([torch.zeros_like(to[0]) if g is None else g.abs().amax(0) for g in found])


def inside(sizes, width):
    return torch.arange(width) < torch.tensor(sizes)[:, None]


@kinds
@ensembles
def test_an_actor_sees_its_own_observation_alone(action, widths, ensemble, seeded):
    """The derivative of agent i's action by agent j's observation is 0 but for j = i, and there but for the padding."""
    actor, data = replace(PLAIN, ensemble=ensemble).build(OBS, action).actor, played(action, ensemble)
    obs = data.obs.requires_grad_()
    mine = actor.kind.draw(actor(actor.rows(obs), data.extras.get("member")), rng())
    found = sensitivity(mine.unbind(1), obs)
    expected = torch.eye(N, dtype=torch.bool)[:, :, None] & inside(SIZES, max(SIZES))
    assert torch.equal(found > 0, expected)


@kinds
def test_every_critic_sees_every_observation_and_action(action, widths, seeded):
    agent, data = PLAIN.build(OBS, action), played(action)
    obs = data.obs.requires_grad_()
    moves = agent.actor.kind.encode(data.action).requires_grad_()
    q = agent.critic(agent.actor.rows(obs), moves)
    assert q.shape == (N, B)
    assert torch.equal(sensitivity(q, obs) > 0, inside(SIZES, max(SIZES)).expand(N, -1, -1))
    assert (sensitivity(q, moves)[:, inside(widths, max(widths))] > 0).all()


@kinds
def test_numbers_that_do_not_count_change_nothing(action, widths, seeded):
    """What is beyond an agent's sizes reaches neither actors nor critics; an action that it has not is never drawn."""
    agent, data = PLAIN.build(OBS, action), played(action)
    other = data.obs.clone()
    other[:, ~inside(SIZES, max(SIZES))] += 100
    assert torch.equal(agent.actor.rows(data.obs), agent.actor.rows(other))
    beyond = ~inside(widths, max(widths))
    with torch.no_grad():
        out = torch.randn(4000, N, max(widths), generator=rng())
        out[:, beyond] = 30.0
        drawn = agent.actor.kind.draw(out, rng())
        acts = [PLAIN.act(agent, data.obs, explore=e, rng=rng()).action for e in (True, False)]
    assert not drawn[:, beyond].any()
    if isinstance(action, Padded):
        assert not agent.actor.kind.encode(100 * torch.ones(B, *action.shape))[:, beyond].any()
    assert all(action.contains(a.numpy()) for x in acts for a in x)


@kinds
def test_an_agents_gain_is_moved_by_its_own_action_alone(action, widths, seeded):
    """Equation 6: agent i's new action in critic i, beside the others' replayed ones, not its own replayed one."""
    agent, data = PLAIN.build(OBS, action), played(action)
    obs, old = agent.actor.rows(data.obs), agent.actor.kind.encode(data.action).requires_grad_()
    mine = agent.actor.kind.draw(agent.actor(obs, None), rng()).detach().requires_grad_()
    worth, own = agent.q_of_own_actions(obs, old, mine), torch.eye(N, dtype=torch.bool)
    assert torch.equal((sensitivity(worth, mine) > 0).any(-1), own)
    assert torch.equal((sensitivity(worth, old) > 0).any(-1), ~own)
    for i in range(N):
        changed = old.clone()
        changed[:, i] = mine[:, i]
        torch.testing.assert_close(worth[i], agent.critic(obs, changed)[i])


def net(numbers, i, x):
    """Network i of an ensemble, on one row x."""
    weights, biases = numbers
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = x @ w[i] + b[i, 0]
        x = x.relu() if layer < len(weights) - 1 else x
    return x


def doubles(ensemble):
    """The numbers of an ensemble as leaves."""
    return [[p.detach().double().requires_grad_() for p in x] for x in (ensemble.weights, ensemble.biases)]


def slow_action(out, i, width, action, gumbel):
    """Agent i's action [A] of its numbers [A], padded; discrete: one-hot, with the softmax's derivative."""
    if isinstance(action, Padded):
        low, high = (torch.as_tensor(x[i]).double() for x in (action.low, action.high))
        x = low + (high - low) * (out.tanh() + 1) / 2
        return torch.cat([x[:width], 0 * x[width:]])
    soft = (out[:width] + gumbel[:width]).softmax(0)
    hard = torch.zeros(width).double()
    hard[soft.argmax()] = 1
    return torch.cat([hard + soft - soft.detach(), 0 * out[width:]])


def slow_seen(action, widths, data):
    """The replayed actions as the critics see them [B, N, A]."""
    out = torch.zeros(B, N, max(widths)).double()
    for b in range(B):
        for i, width in enumerate(widths):
            if isinstance(action, Padded):
                out[b, i, :width] = data.action[b, i, :width]
            else:
                out[b, i, data.action[b, i]] = 1
    return out


def slow_update(algorithm, agent, after, action, widths, data):
    """Gradients of the critics and of the actors, in loops, in doubles: `agent` before an update, `after` for its new critics."""
    gumbel = [torch.zeros(B, N, max(widths))] * 2
    if isinstance(action, gym.spaces.MultiDiscrete):
        g = rng(9)
        gumbel = [-torch.empty(B, N, max(widths)).exponential_(generator=g).log() for _ in range(2)]
    member = data.extras.get("member", torch.zeros(B, N, dtype=torch.int64))
    critic, slow_critic, actor, slow_actor, new_critic = map(
        doubles, (agent.critic, agent.slow_critic, agent.actor.net, agent.slow_actor.net, after.critic)
    )
    counted, acts = inside(SIZES, max(SIZES)), slow_seen(action, widths, data)
    error = gain = size = torch.zeros(()).double()
    for b in range(B):
        seen, then = (x[b].double() * counted for x in (data.obs, data.next_obs))
        choose = [int(member[b, i]) * N + i for i in range(N)]
        moves = [
            slow_action(net(slow_actor, choose[i], then[i]), i, widths[i], action, gumbel[0][b, i]) for i in range(N)
        ]
        for i in range(N):
            future = net(slow_critic, i, torch.cat([then.flatten(), *moves]))
            target = (data.reward[b, i] + data.discount[b] * future).detach()
            error = error + (net(critic, i, torch.cat([seen.flatten(), acts[b].flatten()])) - target).square().sum() / B
            out = net(actor, choose[i], seen[i])
            mine = [*acts[b]]
            mine[i] = slow_action(out, i, widths[i], action, gumbel[1][b, i])
            gain = gain + net(new_critic, i, torch.cat([seen.flatten(), *mine])).sum() / B
            size = size + out.square().sum() / (B * N * max(widths))
    loss = algorithm.logit_penalty * size - gain
    return (
        torch.cat([g.flatten() for g in torch.autograd.grad(x, [*p[0], *p[1]])])
        for x, p in ((error, critic), (loss, actor))
    )


@kinds
@ensembles
def test_an_update_is_that_of_loops_over_agents_and_rows(action, widths, ensemble, seeded):
    """Targets, both gradients and the slow copies; an ensemble's members learn from their own transitions."""
    algorithm = replace(PLAIN, ensemble=ensemble)
    agent, data = algorithm.build(OBS, action), played(action, ensemble)
    for slow in (agent.slow_actor, agent.slow_critic):  # apart from the online ones, as they are in training
        for p in slow.parameters():
            p.data.add_(torch.randn(p.shape) * 0.1)
    before, optimizers = copy.deepcopy(agent), algorithm.optimizers(agent)
    algorithm.update(agent, optimizers, data, Alone(rng(9)))
    critic, actor = slow_update(algorithm, before, agent, action, widths, data)
    for name, expected in (("critic", critic), ("actor", actor)):
        found = gradient_of(getattr(agent, name))
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)
        assert expected.abs().max() > 1e-3
    for slow, was, new in (
        (agent.slow_actor, before.slow_actor, agent.actor),
        (agent.slow_critic, before.slow_critic, agent.critic),
    ):
        for s, w, p in zip(slow.parameters(), was.parameters(), new.parameters(), strict=True):
            torch.testing.assert_close(s, w + 0.3 * (p - w))


def test_choices_are_drawn_by_their_chances(seeded):
    """Of 4000 draws each: chi-square's p is below 1e-4 for one of three agents with probability 3e-4."""
    action, widths = KINDS["discrete"]
    kind, out = PLAIN.build(OBS, action).actor.kind, torch.randn(1, N, 4, generator=rng())
    many = out.expand(4000, -1, -1)
    for drawn in (kind.draw(many, rng(1)), kind.encode(kind.act(many, True, rng(2)))):
        assert torch.equal(drawn.round().sum(-1), torch.ones(4000, N))
        for i, width in enumerate(widths):
            expected = 4000 * out[0, i, :width].double().softmax(0)
            assert stats.chisquare(drawn[:, i, :width].round().sum(0).numpy(), expected.numpy()).pvalue > 1e-4


def test_noise_is_of_its_size_and_within_bounds(seeded):
    """Deviation 0.1 of half a range of 2, around the middle: 4000 draws tell it to 3 in 100 at 2.7 standard errors."""
    algorithm = replace(PLAIN, exploration_noise=0.1)
    kind = algorithm.build(OBS, Padded(BOXES)).actor.kind
    drawn = kind.act(torch.zeros(4000, N, 3), True, rng())
    assert abs(drawn[:, 2, 0].std() - 0.1) < 0.003
    assert torch.equal(kind.act(torch.zeros(1, N, 3), False, rng())[0, :, 0], torch.tensor([-0.5, 1.5, 0.0]))


def test_every_combination_of_members_plays():
    actor = replace(PLAIN, ensemble=2).build(OBS, KINDS["discrete"][0]).actor
    assert sorted(map(tuple, actor.member_of(torch.zeros(8, 1)).tolist())) == [
        (a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)
    ]
    assert (actor.member_of(torch.zeros(2, 1)).sort(0).values == torch.tensor([[0], [1]])).all()
    assert PLAIN.build(OBS, KINDS["discrete"][0]).actor.member_of(torch.zeros(8, 1)) is None


def test_a_world_of_one_agent_is_ddpg():
    """The critic sees the observation and the action, and rewards need no column of their own."""
    obs, action = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Box(-1, 1, (2,))
    agent = PLAIN.build(obs, action)
    assert agent.critic.weights[0].shape == (1, 6, 16)
    one = torch.ones(B)
    data = Transitions(torch.randn(B, 4), torch.rand(B, 2), one, torch.randn(B, 4), one, one, {})
    log = PLAIN.update(agent, PLAIN.optimizers(agent), data, Alone(rng()))
    assert log["critic_loss"].isfinite()


@pytest.mark.parametrize("continuous", [False, True])
def test_adversaries_that_see_less_play_along(continuous):
    """The real world of agents that see 8, 10 and 10 numbers: trained with two members each, all of which learn."""
    pytest.importorskip("mpe2")
    options = {"max_cycles": 10, "continuous_actions": continuous}
    space = vector(ADVERSARY, 1, options).obs_space
    assert space.sizes == (8, 10, 10)
    algorithm = MADDPG(learning_starts=100, train_every=20, batch_size=32, width=16, ensemble=2)
    plan = Play(algorithm, ADVERSARY, steps=400, envs=4, env_options=options, eval_episodes=2)
    memory = Memory()
    result = play.play(plan, seed=0, run=memory)
    assert np.isfinite(result["episode_return"])
    begun, state = setup.untrained(plan, 0).state_dict(), memory.states[-1][1]["learners"][0]["learner"]
    first = "agent.actor.net.weights.0"
    assert begun[first].shape == (6, 10, 16)
    changed = (begun[first] != state["actor"][first]).flatten(2).any(-1)
    assert changed[:, :8].all()
    assert torch.equal(changed[:, 8:], torch.tensor([[False], [True], [True]] * 2).expand(-1, 2))
    kept = state["buffer"]["data"]
    assert kept["reward"].shape == (100, 4, 3)
    assert torch.equal(kept["extras.member"], kept["extras.member"][:1].expand(100, -1, -1))


def test_a_runner_is_sent_the_actors_alone():
    pytest.importorskip("mpe2")
    runner = EnvRunner(RunnerSpec(MADDPG(width=16), ADVERSARY, 2, seed=0))
    agent = runner.actor.agent
    assert runner.actor.pack().size == sum(p.numel() for p in agent.actor.parameters())


@pytest.mark.parametrize(
    ("algorithm", "action", "says"),
    [
        (MADDPG(ensemble=0), gym.spaces.Discrete(2), "1 or more"),
        (MADDPG(), gym.spaces.MultiDiscrete([2, 2]), r"MultiDiscrete\(\[2 2\]\)"),
        (MADDPG(), gym.spaces.Box(-np.inf, np.inf, (2,)), "finite bounds"),
    ],
)
def test_what_cannot_be_is_refused(algorithm, action, says):
    with pytest.raises(ValueError, match=says) as caught:
        algorithm.build(gym.spaces.Box(-1, 1, (4,)), action)
    assert len(str(caught.value).splitlines()) == 1
