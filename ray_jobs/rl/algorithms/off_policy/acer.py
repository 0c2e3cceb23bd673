"""Actor-critic with experience replay: Retrace, truncated weights with bias correction, and a trust region of averages.

Source: Wang et al. 2017, arXiv:1611.01224, sections 3.1 to 3.3, eq. 5 and 9 to 12, algorithms 1 and 2. For a Box: acer_continuous.
Differs: the policy's statistics, in which the trust region lies, are logits, not probabilities; as many replayed updates for every new one,
not a Poisson number; vectors go through networks of their own for policy and critic; Adam in place of RMSProp; losses are means, not sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor, nn

from ray_jobs.recipe.ranges import Count, Decay, NotNegative, Positive, Share, Threshold, Whole
from ray_jobs.rl.batches import successors
from ray_jobs.rl.contract import Act, Log, Optimizers, Replay, Steps, World
from ray_jobs.rl.maths.policy_losses import truncated_importance, trust_region
from ray_jobs.rl.maths.returns import retrace
from ray_jobs.rl.maths.value_losses import squared
from ray_jobs.rl.networks.agents import Averaged, rows
from ray_jobs.rl.networks.nets import ConvNet, TanhMLP, brightest, image
from ray_jobs.rl.networks.policies import Categorical
from ray_jobs.rl.optim.step import adam, gradient_step


class ActorQ(nn.Module):
    """Logits and Q, [*, A] each, of observations [*, *O]; those of images share all layers but the last."""

    def __init__(self, obs: gym.spaces.Box, n: int, width: int) -> None:
        super().__init__()
        self.event, self.image, self.policy = len(obs.shape), image(obs), Categorical(n)
        if self.image:
            self.both = ConvNet(obs.shape, 2 * n, top=brightest(obs), last=[0.01] * n + [1.0] * n)
        else:
            self.actor = TanhMLP([math.prod(obs.shape), width, width, n], last=0.01)
            self.critic = TanhMLP([math.prod(obs.shape), width, width, n])

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        if self.image:
            out, q = self.both(obs).chunk(2, -1)
            return out, q
        obs = rows(obs, self.event)
        return self.actor(obs), self.critic(obs)

    def logits(self, obs: Tensor) -> Tensor:
        """The policy's logits [*, A]."""
        return self(obs)[0] if self.image else self.actor(rows(obs, self.event))

    def value(self, obs: Tensor) -> Tensor:
        """V [*], what Q is on average under the policy."""
        return expected(*self(obs))


def expected(out: Tensor, q: Tensor) -> Tensor:
    """The mean [*] of q [*, A] under softmax(out)."""
    return (out.softmax(-1) * q).sum(-1)


@dataclass(frozen=True)
class ACER:
    """One update by the newest steps and a few by replayed ones, whose policies may be long gone."""

    horizon: Count = 20
    """Steps in a sequence."""
    batch_size: Count = 16
    """Sequences of a replayed update."""
    train_every: Count = 320
    """Steps of all environments together between rounds of updates; at least `horizon` of each."""
    replays: Whole = 4
    """Replayed updates in a round."""
    buffer_size: Count = 50_000
    """Steps kept."""
    learning_starts: Whole = 1000
    """Steps before the first update."""
    gamma: Share = 0.99
    """Discount."""
    lr: Positive = 7e-4
    """Adam's step size, at the start; it falls linearly to 0."""
    c: Threshold = 10.0
    """Where importance weights are cut."""
    delta: Threshold = 1.0
    """How far, to first order, an update may move the policy away from the average one, in nats for a step size of 1."""
    decay: Decay = 0.99
    """Of the average policy, per update."""
    value_weight: NotNegative = 0.5
    """Weight of the critic's loss."""
    entropy_weight: NotNegative = 0.01
    """Weight of the entropy bonus."""
    max_norm: Threshold = 1.0
    """Largest norm of a gradient."""
    width: Count = 64
    """Units in each of two hidden layers."""

    @property
    def experience(self) -> Replay:
        return Replay(
            self.buffer_size,
            self.batch_size,
            self.learning_starts,
            self.train_every,
            self.replays,
            length=self.horizon,
            newest=True,
        )

    def build(self, obs: gym.spaces.Box, action: gym.Space) -> Averaged:
        if not isinstance(action, gym.spaces.Discrete) or action.start != 0:
            raise ValueError(f"ACER needs a Discrete action space that starts at 0, and this is {action}.")
        return Averaged(ActorQ(obs, int(action.n), self.width))

    def optimizers(self, agent: Averaged) -> Optimizers:
        return {"all": adam(agent.now, self.lr)}

    def act(self, agent: Averaged, obs: Tensor, *, explore: bool, rng: torch.Generator) -> Act:
        policy, out = agent.now.policy, agent.now.logits(obs)
        return Act(policy.sample(out, rng) if explore else policy.mode(out), {"logp": out.log_softmax(-1)})

    def update(self, agent: Averaged, optimizers: Optimizers, data: Steps, world: World) -> Log:
        optimizers["all"].lr = self.lr * (1 - world.progress)
        out, q = agent.now(data.obs)
        value, target, ratio = self.targets(agent, data, out.detach(), q.detach())
        out, taken = out[:-1], q[:-1].gather(-1, data.action[..., None]).squeeze(-1)
        step = self.step(agent, data, out.detach(), q[:-1].detach(), value, target)
        policy, error = -(step * out).sum(-1).mean(), 0.5 * squared(taken, target).mean()
        gradient_step(policy + self.value_weight * error, optimizers["all"], world, self.max_norm)
        agent.update_average(self.decay)
        entropy = agent.now.policy.entropy(out.detach()).mean()
        return {"value_loss": error.detach(), "entropy": entropy, "ratio": ratio.mean(), "q": taken.detach().mean()}

    @torch.no_grad()
    def targets(self, agent: Averaged, data: Steps, out: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """V, Retrace's target for what was done, and the weight pi / mu of it, [T, B] each; from logits and Q [T+1, B, A]."""
        v, index = expected(out, q), data.action[..., None]
        taken, logp, mu = (
            x.gather(-1, index).squeeze(-1) for x in (q[:-1], out[:-1].log_softmax(-1), data.extras["logp"])
        )
        after, ratio = successors(v, agent.now.value, data), (logp - mu).exp()
        masks = data.discount(self.gamma), data.carry
        return v[:-1], retrace(data.reward, taken, after, *masks, ratio), ratio

    def step(self, agent: Averaged, data: Steps, out: Tensor, q: Tensor, value: Tensor, target: Tensor) -> Tensor:
        """Where the logits are to go [T, B, A]: up equation 9, as far as the trust region lets them (equation 12)."""
        out = out.requires_grad_()
        logp = out.log_softmax(-1)
        loss = truncated_importance(logp, data.extras["logp"], data.action, target, q, value, self.c)
        bonus = self.entropy_weight * agent.now.policy.entropy(out)
        (g,) = torch.autograd.grad((bonus - loss).sum(), out)
        with torch.no_grad():
            return trust_region(g, logp.exp() - agent.average.logits(data.obs[:-1]).softmax(-1), self.delta)
