"""Gradients of REINFORCE, A2C, A3C, QAC and Off-PAC on processes whose policy gradient is known exactly.

What is differentiated is each algorithm's own `update` (or `loss`), for a softmax table and a table of values: networks without
hidden layers over one-hot states. Episodes start from the process's start and are cut, or end, after `LENGTH` steps.

Which gradient they estimate: no estimator here weighs the step at time t by gamma^t. On average each gives the mean over the steps t
of its data of sum_s P(s_t = s) sum_a pi'(a | s) Q_t(s, a): states count as often as they are met, undiscounted. REINFORCE's Q_t is of
the rewards, discounted from t on, to the episode's end; A2C's and A3C's of those to the horizon, then the critic's value; QAC's is
the critic. At gamma = 1 REINFORCE's is the slope of the expected return itself. Off-PAC's states are the behaviour's.

Sampled means are compared with it in each coordinate within 4 standard errors of 300 independent batches: a right estimator fails in
one coordinate with probability 7e-5, in any of the at most 30 of a test with less than 0.3%. The rest is enumerated, without chance.
"""

import itertools
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.rl.algorithms.off_policy import off_pac
from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C
from ray_jobs.rl.algorithms.policy_gradient.a3c import A3C
from ray_jobs.rl.algorithms.policy_gradient.qac import QAC, Agent
from ray_jobs.rl.algorithms.policy_gradient.reinforce import REINFORCE
from ray_jobs.rl.contract import Alone, Gradient, Steps
from ray_jobs.rl.networks.agents import ActorCritic
from ray_jobs.tabular import mdp as tabular

STATES, ACTIONS, LENGTH, GAMMA = 4, 3, 4, 0.8
HORIZON = 6  # one episode and half of the next
MDP = tabular.random_mdp(STATES, ACTIONS, GAMMA, seed=5)
OBS, ACTION = gym.spaces.Box(0.0, 1.0, (STATES,), np.float32), gym.spaces.Discrete(ACTIONS)
LOGITS = np.random.default_rng(6).normal(size=(STATES, ACTIONS))
POLICY = tabular.softmax(LOGITS)
GUESS = np.random.default_rng(7).normal(size=STATES)
NO_VALUE = np.zeros(STATES)
ENDLESS = float("inf")


def linear(sizes, *, last=1.0):
    return torch.nn.Linear(sizes[0], sizes[-1], bias=False)


def fill(layer, table):
    """W one-hot(s) = table[s]."""
    layer.weight.data = torch.as_tensor(np.asarray(table).reshape(len(table), -1).T.copy())


def actor_critic(logits=LOGITS, value=GUESS):
    states, actions = logits.shape
    agent = ActorCritic(gym.spaces.Box(0, 1, (states,)), gym.spaces.Discrete(actions), width=1, net=linear)
    fill(agent.actor, logits)
    fill(agent.critic, value)
    return agent


def gradients(algorithm, agent, data, *layers):
    """Of one update, for each layer as a table [S, *]; the step that follows it has size 0."""
    algorithm.update(agent, algorithm.optimizers(agent), data, Alone(torch.Generator().manual_seed(1)))
    return [layer.weight.grad.T.numpy().squeeze(-1 if len(layer.weight) == 1 else ()).copy() for layer in layers]


def still(algorithm):
    """The algorithm, taking steps of size 0, unclipped."""
    sizes = {k: 0.0 for k in ("lr", "actor_lr", "critic_lr") if hasattr(algorithm, k)}
    return replace(algorithm, gamma=GAMMA, max_norm=ENDLESS, **sizes)


def play(algorithm, agent, rng, *, batch=400, ends="truncated", mdp=MDP):
    """Steps [T, batch] from the start, as long as the algorithm asks for, acted by it."""
    states, torch_rng = len(mdp.start), torch.Generator().manual_seed(int(rng.integers(2**31)))
    one_hot = torch.eye(states, dtype=torch.float64)
    s, rows, last = draw(np.tile(mdp.start, (batch, 1)), rng), [], []
    for t in range(algorithm.experience.horizon):
        with torch.no_grad():
            act = algorithm.act(agent, one_hot[s], explore=True, rng=torch_rng)
        a, over = act.action.numpy(), (t + 1) % LENGTH == 0
        rows.append((one_hot[s], act.action, torch.as_tensor(mdp.reward[s, a]), torch.full((batch,), over)))
        s = draw(mdp.transition[s, a], rng)
        if over:
            last += [one_hot[s]] if ends == "truncated" else []
            s = draw(np.tile(mdp.start, (batch, 1)), rng)
    obs, action, reward, over = (torch.stack(x) for x in zip(*rows, strict=True))
    masks = (torch.zeros_like(over), over) if ends == "truncated" else (over, torch.zeros_like(over))
    last_obs = torch.cat(last) if last else obs[0, :0]
    return Steps(torch.cat([obs, one_hot[s][None]]), action, reward, *masks, last_obs, {})


def draw(probabilities, rng):
    """One index for each row [N, S]."""
    rungs = probabilities.cumsum(-1)[:, :-1]
    return (rng.random((len(rungs), 1)) > rungs).sum(-1)


def sampled(algorithm, agent, *layers, ends="truncated", batches=300):
    """Mean and its standard error, for each layer's gradient."""
    rng = np.random.default_rng(0)
    found = [gradients(algorithm, agent, play(algorithm, agent, rng, ends=ends), *layers) for _ in range(batches)]
    return [(np.mean(x, 0), np.std(x, 0, ddof=1) / batches**0.5) for x in zip(*found, strict=True)]


def agrees(estimate, exact):
    mean, error = estimate
    assert mean.shape == exact.shape
    assert (np.abs(mean - exact) < 4 * error + 1e-6).all(), (mean - exact) / error
    assert (np.abs(exact) > 4 * error).any(), "the test would not notice a gradient of 0"


def visits(t, mdp=MDP, policy=POLICY):
    """P(s_t = s) [S] in data that begin with an episode."""
    moves = np.einsum("sa,sat->st", policy, mdp.transition)
    return mdp.start @ np.linalg.matrix_power(moves, t % LENGTH)


def to_go(k, after, mdp=MDP, policy=POLICY):
    """Q [S, A] of k rewards, and then of what the values `after` [S] promise."""
    for _ in range(k):
        q = mdp.reward + mdp.gamma * mdp.transition @ after
        after = (policy * q).sum(-1)
    return q


def ascent(states, q, policy=POLICY):
    """sum_s states(s) sum_a pi'(a | s) q(s, a) for a softmax table: [S, A]."""
    return states[:, None] * policy * (q - (policy * q).sum(-1, keepdims=True))


def descent(states, value, q, policy=POLICY):
    """The gradient [S] of the squared error of a table of values."""
    return 2 * states * (value - (policy * q).sum(-1))


def mean(f, steps):
    return np.mean([f(t) for t in range(steps)], 0)


def test_the_oracle_is_the_slope_of_the_expected_return():
    """At gamma = 1 the sum over an episode's steps of what the estimators estimate, by central differences of the return."""
    mdp = tabular.MDP(MDP.transition, MDP.reward, MDP.start, 1.0)

    def returns(logits):
        policy = tabular.softmax(logits)
        return float(mdp.start @ (policy * to_go(LENGTH, NO_VALUE, mdp, policy)).sum(-1))

    found = sum(ascent(visits(t), to_go(LENGTH - t, NO_VALUE, mdp)) for t in range(LENGTH))
    for i in np.ndindex(*LOGITS.shape):
        step = np.zeros_like(LOGITS)
        step[i] = 1e-5
        np.testing.assert_allclose(found[i], (returns(LOGITS + step) - returns(LOGITS - step)) / 2e-5, atol=1e-8)


@pytest.mark.parametrize("baseline", [False, True])
def test_reinforce(baseline):
    """Steps before the tail, whose returns are whole, with any baseline."""
    algorithm, agent = still(REINFORCE(horizon=HORIZON, tail=LENGTH, baseline=baseline)), actor_critic()
    estimates = sampled(algorithm, agent, agent.actor, agent.critic)
    agrees(estimates[0], -mean(lambda t: ascent(visits(t), to_go(LENGTH - t % LENGTH, NO_VALUE)), HORIZON))
    fit = mean(lambda t: descent(visits(t), GUESS, to_go(LENGTH - t % LENGTH, NO_VALUE)), HORIZON)
    if baseline:
        agrees(estimates[1], algorithm.value_weight * fit)
    else:
        assert not estimates[1][0].any()


def loss_slopes(algorithm, ends):
    """Of an advantage actor-critic's loss, by policy [S, A] and value [S]: the critic is a guess, and is believed where it is asked."""
    log = np.log(POLICY)
    entropy = -POLICY * (log - (POLICY * log).sum(-1, keepdims=True))  # of the policy's entropy, by its logits

    def q(t):
        k = min(LENGTH - t % LENGTH, HORIZON - t)
        at_an_end = (t + k) % LENGTH == 0 and ends == "terminated"
        return to_go(k, NO_VALUE if at_an_end else GUESS)

    bonus = mean(lambda t: visits(t)[:, None] * entropy, HORIZON)
    policy = -mean(lambda t: ascent(visits(t), q(t)), HORIZON) - algorithm.entropy_weight * bonus
    return policy, algorithm.value_weight * mean(lambda t: descent(visits(t), GUESS, q(t)), HORIZON)


@pytest.mark.parametrize("ends", ["truncated", "terminated"])
def test_a2c(ends):
    algorithm, agent = still(A2C(horizon=HORIZON, entropy_weight=0.1)), actor_critic()
    estimates = sampled(algorithm, agent, agent.actor, agent.critic, ends=ends)
    for estimate, exact in zip(estimates, loss_slopes(algorithm, ends), strict=True):
        agrees(estimate, exact)


class Sent(A3C):
    """A3C whose runner's steps come straight to the update."""

    def update(self, agent, optimizers, data, world):
        found = torch.autograd.grad(self.loss(agent, data)[0], list(agent.parameters()))
        return super().update(agent, optimizers, Gradient(torch.cat([g.flatten() for g in found]), {}), world)


def test_a3c_sends_the_gradient_of_a2c():
    sent, together = still(Sent(horizon=HORIZON, entropy_weight=0.1)), still(A2C(horizon=HORIZON, entropy_weight=0.1))
    one, other = actor_critic(), actor_critic()
    for ends in ("truncated", "terminated"):
        data = play(together, other, np.random.default_rng(3), ends=ends)
        found = gradients(sent, one, data, one.actor, one.critic)
        for x, y in zip(found, gradients(together, other, data, other.actor, other.critic), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-12)


def test_a3c():
    algorithm, agent = still(Sent(horizon=HORIZON, entropy_weight=0.1)), actor_critic()
    estimates = sampled(algorithm, agent, agent.actor, agent.critic)
    for estimate, exact in zip(estimates, loss_slopes(algorithm, "truncated"), strict=True):
        agrees(estimate, exact)


def test_a3c_applies_clipped_gradients_with_common_statistics():
    """Two runners' gradients, one after the other: RMSProp by its definition, on gradients cut to their largest norm."""
    algorithm, agent = A3C(lr=0.1, eps=1e-3, max_norm=0.5), actor_critic()
    optimizers, world = algorithm.optimizers(agent), Alone(torch.Generator())
    flat = torch.cat([p.detach().flatten() for p in agent.parameters()])
    square = torch.zeros_like(flat)
    for size, progress in ((3.0, 0.0), (0.01, 0.25)):
        sent = size * torch.linspace(-1, 1, len(flat), dtype=torch.float64)
        world.progress = progress
        log = algorithm.update(agent, optimizers, Gradient(sent, {"policy_loss": torch.tensor(2.0)}), world)
        cut = sent * min(1.0, 0.5 / float(sent.norm()))
        square = 0.99 * square + 0.01 * cut**2
        flat = flat - 0.1 * (1 - progress) * cut / (square.sqrt() + 1e-3)
        assert log == {"policy_loss": torch.tensor(2.0)}
    torch.testing.assert_close(
        torch.cat([p.detach().flatten() for p in agent.parameters()]), flat, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("critic", ["exact", "wrong"])
def test_qac(critic):
    """With the exact critic the policy's is the policy gradient but for the discounting of states, and the critic's is 0."""
    q = tabular.action_values(MDP, POLICY)
    q = q if critic == "exact" else q + np.random.default_rng(8).normal(size=q.shape)
    algorithm, agent = still(QAC(horizon=HORIZON)), Agent(OBS, ACTION, width=1, net=linear)
    fill(agent.acting.net, LOGITS)
    fill(agent.critic.net, q)
    estimates = sampled(algorithm, agent, agent.acting.net, agent.critic.net)
    states = mean(visits, HORIZON)
    agrees(estimates[0], -ascent(states, q))
    error = q - MDP.reward - GAMMA * MDP.transition @ (POLICY * q).sum(-1)
    exact = 2 * states[:, None] * POLICY * error
    if critic == "wrong":
        agrees(estimates[1], exact)
    else:
        np.testing.assert_allclose(exact, 0, atol=1e-12)
        assert (np.abs(estimates[1][0]) < 4 * estimates[1][1]).all()


def paths(mdp, steps):
    """Every (s_0, a_0, ..., s_steps), as states and actions."""
    states, actions = mdp.reward.shape
    for s in itertools.product(range(states), repeat=steps + 1):
        for a in itertools.product(range(actions), repeat=steps):
            yield s, a


def likelihood(mdp, begin, policy, s, a):
    moves = zip(s, a, s[1:], strict=False)
    return begin[s[0]] * np.prod([policy[x, u] * mdp.transition[x, u, y] for x, u, y in moves])


def path_steps(mdp, s, a, *, over=False, **extras):
    """One environment's Steps along a path; `over` ends the episode with it."""
    one_hot, s, a = torch.eye(len(mdp.start), dtype=torch.float64), np.array(s), np.array(a)
    ends = torch.zeros(len(a), 1, dtype=torch.bool)
    terminated = ends.clone()
    terminated[-1] = over
    reward = torch.as_tensor(mdp.reward[s[:-1], a])[:, None]
    return Steps(one_hot[s][:, None], torch.as_tensor(a)[:, None], reward, terminated, ends, one_hot[:0], extras)


def test_a_baseline_moves_no_mean_and_takes_variance_away():
    """All 128 episodes of 3 steps, weighed by their probabilities; the baseline is what its loss would fit.

    Each step pays something, as a pole's does: where returns lie around 0 a baseline can also add variance.
    """
    mdp, length = tabular.random_mdp(2, 2, GAMMA, seed=1), 3
    mdp = replace(mdp, reward=mdp.reward + 1)
    logits = np.array([[0.3, -0.4], [-0.2, 0.9]])
    policy = tabular.softmax(logits)
    moves = np.einsum("sa,sat->st", policy, mdp.transition)
    here = [mdp.start @ np.linalg.matrix_power(moves, t) for t in range(length)]
    q = [to_go(length - t, np.zeros(2), mdp, policy) for t in range(length)]
    fitted = sum(p * (policy * x).sum(-1) for p, x in zip(here, q, strict=True)) / sum(here)
    chance, found = [], {False: [], True: []}
    for s, a in paths(mdp, length):
        chance.append(likelihood(mdp, mdp.start, policy, s, a))
        for baseline in found:
            algorithm = still(REINFORCE(horizon=length, tail=0, baseline=baseline))
            agent = actor_critic(logits, fitted)
            found[baseline] += gradients(algorithm, agent, path_steps(mdp, s, a, over=True), agent.actor)
    assert np.isclose(sum(chance), 1)
    exact = -sum(ascent(p, x, policy) for p, x in zip(here, q, strict=True)) / length
    spread = {}
    for baseline, each in found.items():
        np.testing.assert_allclose(np.average(each, 0, weights=chance), exact, atol=1e-6)
        spread[baseline] = np.average(np.square(np.array(each) - exact).sum((-1, -2)), weights=chance)
    assert spread[True] < 0.8 * spread[False]


def off_agent(logits, value, second):
    states, actions = logits.shape
    agent = off_pac.Agent(gym.spaces.Box(0, 1, (states,)), gym.spaces.Discrete(actions), width=1, net=linear)
    for layer, table in ((agent.actor, logits), (agent.critic, value), (agent.second, second)):
        fill(layer, table)
    return agent


@pytest.mark.parametrize(("lam", "steps"), [(0.0, 1), (0.7, 2)])
def test_off_pac_s_gradient_is_that_of_its_theorem(lam, steps):
    """Over every path of an evenly choosing behaviour in its long run: sum_s d_b(s) sum_a pi'(a | s) Q_pi(s, a), for any lambda.

    The critic is exact; then its own steps are 0 on average, and V is where GTD(lambda) rests.
    """
    mdp = tabular.random_mdp(3, 2, GAMMA, seed=2)
    logits = np.random.default_rng(3).normal(size=(3, 2))
    policy, behaviour = tabular.softmax(logits), np.full((3, 2), 0.5)
    states = tabular.stationary(mdp, behaviour)
    algorithm, mean, total = still(off_pac.OffPAC(lam=lam, horizon=steps)), 0.0, 0.0
    agent = off_agent(logits, tabular.state_values(mdp, policy), np.zeros(3))
    logp = torch.full((steps, 1), -np.log(2.0), dtype=torch.float64)
    for s, a in paths(mdp, steps):
        chance = likelihood(mdp, states, behaviour, s, a)
        data = path_steps(mdp, s, a, logp=logp)
        found = gradients(algorithm, agent, data, agent.actor, agent.critic, agent.second)
        mean, total = mean + chance * np.concatenate([x.ravel() for x in found]), total + chance
    assert np.isclose(total, 1)
    np.testing.assert_allclose(
        mean[:6].reshape(3, 2), -ascent(states, tabular.action_values(mdp, policy), policy), atol=1e-6
    )
    np.testing.assert_allclose(mean[6:], 0, atol=1e-6)


def algorithm_1(obs, action, reward, terminated, truncated, ratio, last, weights, gamma, lam):
    """The sums of Degris et al.'s steps for one environment, their weights held: eligibilities, one step after the other."""
    logits, v, w = weights
    e_v, e_u = np.zeros_like(v), np.zeros_like(logits)
    sums, last = [np.zeros_like(x) for x in weights], iter(last)
    for t in range(len(action)):
        x, cut = obs[t], truncated[t]
        after = next(last) if cut else obs[t + 1]
        discount = gamma * (not terminated[t])
        policy = tabular.softmax(x @ logits)
        psi = np.outer(x, np.eye(len(policy))[action[t]] - policy)
        e_v, e_u = ratio[t] * (x + e_v), ratio[t] * (psi + e_u)
        delta = reward[t] + discount * v @ after - v @ x
        sums[0] += delta * e_u
        sums[1] += delta * e_v - discount * (1 - lam) * (w @ e_v) * after
        sums[2] += delta * e_v - (w @ x) * x
        e_v, e_u = (y * discount * lam * (not cut) for y in (e_v, e_u))
    return sums


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_off_pac_takes_the_steps_of_the_paper_s_traces(lam):
    """Random features, ends of both kinds and a behaviour that is in part the policy itself."""
    rng, steps, batch = np.random.default_rng(4), 12, 3
    weights = [rng.normal(size=(STATES, ACTIONS)), rng.normal(size=STATES), rng.normal(size=STATES)]
    algorithm, agent = still(off_pac.OffPAC(lam=lam, wander=0.5, value_weight=2.0)), off_agent(*weights)
    obs = torch.as_tensor(rng.normal(size=(steps + 1, batch, STATES)))
    acts = [algorithm.act(agent, x, explore=True, rng=torch.Generator().manual_seed(t)) for t, x in enumerate(obs[:-1])]
    action, logp = torch.stack([x.action for x in acts]), torch.stack([x.extras["logp"] for x in acts]).detach()
    ends = rng.random((2, steps, batch)) < 0.2
    terminated, truncated = ends[0], ends[1] & ~ends[0]
    assert terminated.any() and truncated.any()
    reward, last = rng.normal(size=(steps, batch)), rng.normal(size=(truncated.sum(), STATES))
    masks = torch.as_tensor(terminated), torch.as_tensor(truncated)
    data = Steps(obs, action, torch.as_tensor(reward), *masks, torch.as_tensor(last), {"logp": logp})
    found = gradients(algorithm, agent, data, agent.actor, agent.critic, agent.second)
    chance = tabular.softmax(obs.numpy()[:-1] @ weights[0])
    taken = np.take_along_axis(chance, action.numpy()[..., None], -1)[..., 0]
    ratio, whose = taken / (0.5 / ACTIONS + 0.5 * taken), truncated.nonzero()[1]
    seen = (obs.numpy(), action.numpy(), reward, terminated, truncated, ratio)
    columns = [algorithm_1(*(x[:, b] for x in seen), last[whose == b], weights, GAMMA, lam) for b in range(batch)]
    for x, weight, each in zip(found, (1.0, 2.0, 2.0), zip(*columns, strict=True), strict=True):
        np.testing.assert_allclose(-x * steps * batch / weight, sum(each), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wander", [0.0, 0.3, 1.0])
def test_off_pac_says_how_likely_its_behaviour_was(wander):
    """Its log-probability is of the mixture, and actions come so often, within 4 standard errors (failing 1 time in 1000)."""
    algorithm, agent, n = off_pac.OffPAC(wander=wander), off_agent(LOGITS, GUESS, GUESS), 20_000
    obs = torch.eye(STATES, dtype=torch.float64).repeat_interleave(n, 0)
    act = algorithm.act(agent, obs, explore=True, rng=torch.Generator().manual_seed(0))
    mixture = wander / ACTIONS + (1 - wander) * POLICY
    for s, (a, logp) in enumerate(zip(act.action.view(STATES, n), act.extras["logp"].view(STATES, n), strict=True)):
        np.testing.assert_allclose(logp.detach().exp(), mixture[s][a], rtol=1e-5)
        share = np.bincount(a, minlength=ACTIONS) / n
        assert (np.abs(share - mixture[s]) < 4 * np.sqrt(mixture[s] * (1 - mixture[s]) / n)).all()
    greedy = algorithm.act(agent, obs, explore=False, rng=torch.Generator()).action
    assert (greedy.view(STATES, n).numpy() == LOGITS.argmax(-1)[:, None]).all()
