"""Actor-critics on every kind of space: an update from any Steps that the runtime can hand over moves all that acts."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from ray_jobs.rl.algorithms.off_policy.off_pac import OffPAC
from ray_jobs.rl.algorithms.policy_gradient.a2c import A2C
from ray_jobs.rl.algorithms.policy_gradient.a3c import A3C
from ray_jobs.rl.algorithms.policy_gradient.qac import QAC
from ray_jobs.rl.algorithms.policy_gradient.reinforce import REINFORCE
from ray_jobs.rl.contract import Alone, Gradient, Steps

OBS = {
    "vector": gym.spaces.Box(-1, 1, (3,), np.float32),
    "table": gym.spaces.Box(-1, 1, (2, 3), np.float32),
    "image": gym.spaces.Box(0, 255, (2, 10, 10), np.uint8),
}
ACTIONS = {
    "discrete": gym.spaces.Discrete(3),
    "choices": gym.spaces.MultiDiscrete([2, 3]),
    "box": gym.spaces.Box(-1, 1, (2,), np.float32),
}
ALGORITHMS = [
    REINFORCE(horizon=6, tail=2),
    QAC(horizon=8),
    A2C(horizon=8),
    A3C(horizon=8),
    OffPAC(horizon=8, wander=0.5),
]


def steps(algorithm, agent, space, batch=3, length=8):
    """Of chance, with ends of both kinds, acted by the algorithm."""
    rng = torch.Generator().manual_seed(0)
    obs = torch.from_numpy(np.stack([[space.sample() for _ in range(batch)] for _ in range(length + 1)]))
    acts = [algorithm.act(agent, x, explore=True, rng=rng) for x in obs[:-1]]
    ends = torch.rand(length, batch, generator=rng)
    extras = {k: torch.stack([a.extras[k] for a in acts]) for k in acts[0].extras}
    terminated, truncated = ends < 0.2, ends > 0.8
    last = obs[1:][truncated]
    assert terminated.any() and len(last)
    action = torch.stack([a.action for a in acts])
    return Steps(obs, action, torch.randn(length, batch, generator=rng), terminated, truncated, last, extras)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("obs", OBS)
def test_an_update_moves_all_that_acts(algorithm, action, obs):
    torch.manual_seed(0)
    OBS[obs].seed(0)
    if isinstance(algorithm, QAC) and obs == "image" and action != "discrete":
        with pytest.raises(ValueError, match=r"needs a Discrete action space where observations are images"):
            algorithm.build(OBS[obs], ACTIONS[action])
        return
    agent = algorithm.build(OBS[obs], ACTIONS[action])
    optimizers, acting = algorithm.optimizers(agent), getattr(agent, "acting", agent)
    with torch.no_grad():
        data = steps(algorithm, agent, OBS[obs])
    begun = [p.detach().clone() for p in acting.parameters() if p.requires_grad]
    if isinstance(algorithm, A3C):
        loss, log = algorithm.loss(agent, data)
        data = Gradient(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(agent.parameters()))]), log)
    log = algorithm.update(agent, optimizers, data, Alone(torch.Generator()))
    assert all(torch.isfinite(x).all() and x.dim() == 0 for x in log.values())
    moved = [p for p in acting.parameters() if p.requires_grad]
    assert all(torch.isfinite(p).all() and not torch.equal(p, q) for p, q in zip(moved, begun, strict=True))


def test_a_share_is_a_share():
    with pytest.raises(ValueError, match="from 0 to 1"):
        OffPAC(wander=1.5)
