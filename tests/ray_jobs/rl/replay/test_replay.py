"""Replay: what is drawn is what was played, n steps and sequences follow the definition, and priorities are proportions."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from scipy.stats import chisquare

from ray_jobs.errors import UsageError
from ray_jobs.rl.contract import Replay, Steps
from ray_jobs.rl.replay.buffer import ReplayBuffer
from ray_jobs.rl.replay.priorities import Priorities
from ray_jobs.rl.replay.ring import spans

GAMMA = 0.9


def buffer(capacity: int, envs: int = 1, batch: int = 500, **more) -> ReplayBuffer:
    return ReplayBuffer(Replay(capacity, batch, 0, **more), envs, GAMMA)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fragment(first: int, T: int, envs: int = 1, ends: dict[int, str] | None = None) -> Steps:
    """Steps number `first` on; an observation is (step, column); `ends` tells how an episode ends at a step.

    The true last observation of a truncated step has 0.5 added, and the next episode's first has nothing in common with it.
    """
    step = torch.arange(first, first + T + 1.0)[:, None].expand(-1, envs)
    obs = torch.stack([step, torch.arange(envs).float().expand(T + 1, envs)], -1)
    masks = {k: torch.zeros(T, envs, dtype=torch.bool) for k in ("terminated", "truncated")}
    for at, how in (ends or {}).items():
        if first <= at < first + T:
            masks[how][at - first] = True
    last = obs[1:][masks["truncated"]] + torch.tensor([0.5, 0.0])
    reward = step[:-1] + 1.0
    return Steps(obs, torch.zeros(T, envs).long(), reward, *masks.values(), last, {"also": reward * 2})


def test_it_keeps_the_newest():
    kept = buffer(10)
    for first in (0, 7, 14):
        kept.add(fragment(first, 7))
    drawn = kept.sample(rng())
    assert set(drawn.obs[:, 0].tolist()) == set(range(11, 21))
    assert torch.equal(drawn.next_obs[:, 0], drawn.obs[:, 0] + 1)
    assert torch.equal(drawn.extras["also"], drawn.reward * 2)
    assert (drawn.weight == 1).all()


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.integers(0, 50), st.integers(1, 30), st.integers(1, 12))
def test_new_steps_go_where_one_by_one_they_would(seen, n, rows):
    """Runs without a gap hold the very rows that a loop over steps writes last, in order."""
    places = [(row + k, step + k) for row, step, count in spans(seen, n, rows) for k in range(count)]
    assert places == [((seen + k) % rows, k) for k in range(n)][-rows:]


def test_more_than_it_holds_at_once():
    kept = buffer(10)
    kept.add(fragment(0, 3))
    kept.add(fragment(3, 27))
    assert set(kept.sample(rng()).obs[:, 0].tolist()) == set(range(20, 30))


def test_every_step_is_drawn_equally_often():
    """Two sources that have brought unequally many; chi-square at an error rate of 1e-3."""
    kept = buffer(40, envs=3, batch=20_000)
    kept.add(fragment(0, 5, envs=2), "a")
    kept.add(fragment(100, 9), "b")
    drawn = kept.sample(rng()).obs
    names, counts = torch.unique(drawn, dim=0, return_counts=True)
    assert len(names) == 5 * 2 + 9 == len(kept)
    assert chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("plan", [{}, {"n_step": 3}, {"length": 4}, {"priority": 0.6}])
def test_it_is_saved_whole(plan):
    one, two = buffer(10, batch=50, **plan), buffer(10, batch=50, **plan)
    one.add(fragment(0, 7))
    one.sample(rng())
    one.set_priorities(torch.arange(50.0))
    two.load(one.state(), torch.device("cpu"))
    for kept in (one, two):
        kept.add(fragment(7, 6))
    drawn = [kept.sample(rng(1)) for kept in (one, two)]
    assert len(one) == len(two) == 10
    assert torch.equal(drawn[0].obs, drawn[1].obs)
    assert torch.equal(drawn[0].reward, drawn[1].reward)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.integers(1, 5),
    st.dictionaries(st.integers(0, 24), st.sampled_from(["terminated", "truncated"]), max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_n_steps_follow_the_definition(n, ends, sizes):
    """Against a walk through the list of all steps: up to n rewards, to the episode's end or the newest step."""
    kept, first = buffer(12, batch=64, n_step=n), 0
    for size in sizes:
        kept.add(fragment(first, size, ends=ends))
        first += size
    drawn = kept.sample(rng())
    for i in range(64):
        t, total, factor = int(drawn.obs[i, 0]), 0.0, 1.0
        for _ in range(n):
            total, factor, how = total + factor * (t + 1), factor * GAMMA, ends.get(t)
            t += 1
            if how or t == first:
                break
        assert drawn.reward[i] == pytest.approx(total, rel=1e-5)
        assert drawn.discount[i] == pytest.approx(0.0 if how == "terminated" else factor, rel=1e-5)
        if how != "terminated":
            assert drawn.next_obs[i, 0] == t + (0.5 if how == "truncated" else 0.0)


def test_sequences_are_consecutive_and_know_their_cuts():
    kept = buffer(20, envs=2, batch=300, length=4)
    for first in (0, 7, 14):
        kept.add(fragment(first, 7, envs=2, ends={16: "truncated", 18: "terminated"}))
    data = kept.sample(rng())
    steps = data.obs[..., 0]
    assert data.reward.shape == (4, 300)
    assert torch.equal(data.reward, steps[:-1] + 1)
    inner = steps[1:-1] - steps[:-2]
    assert (inner == 1).all()
    assert torch.equal(data.truncated, steps[:-1] == 16)
    assert torch.equal(data.terminated, steps[:-1] == 18)
    assert (data.last_obs[:, 0] == 17.5).all()
    assert len(data.last_obs) == data.truncated.sum()
    assert set(steps[0].tolist()) == set(range(11, 18)), "the oldest, and the last from which four steps follow"


def test_priorities_are_drawn_in_proportion():
    """Stratified draws: each place's count is within one of its share of the draws in each round."""
    tree, mass = Priorities(37, 1.0), torch.rand(37, generator=rng()) + 0.1
    tree.set(torch.arange(37), mass)
    counts = torch.zeros(37)
    for i in range(50):
        at, _ = tree.draw(1000, rng(i), 1.0, 37)
        counts += torch.bincount(at, minlength=37)
    torch.testing.assert_close(counts / 50_000, mass / mass.sum(), atol=2e-3, rtol=0)


def test_importance_weights_undo_the_priorities():
    """The weighted mean of anything over draws is its plain mean: the ratio of two sums, to 2%."""
    tree, mass, x = Priorities(20, 0.7), torch.rand(20, generator=rng()) + 0.05, torch.randn(20, generator=rng(1)) + 3
    tree.set(torch.arange(20), mass)
    at, weight = tree.draw(100_000, rng(), 1.0, 20)
    assert weight.max() == 1
    assert ((weight * x[at]).sum() / weight.sum()).item() == pytest.approx(x.mean().item(), rel=0.02)


def test_new_steps_are_as_likely_as_the_worst_known_one():
    kept = buffer(16, batch=4, priority=1.0)
    kept.add(fragment(0, 8))
    kept.sample(rng())
    kept.set_priorities(torch.full((4,), 50.0))
    kept.add(fragment(8, 8))
    leaves = kept.priorities.tree[kept.priorities.size :][:16]
    assert (leaves[8:] == leaves.max()).all()
    assert leaves.max() == pytest.approx(50.0, rel=1e-4)


def test_what_comes_after_a_cut_is_no_part_of_what_came_before():
    """Another runner took over column 1: it is cut after step 6, where step 100 follows; column 0 is whole."""
    kept = buffer(40, envs=2, batch=4000, n_step=3)
    kept.add(fragment(0, 7, envs=2, ends={2: "terminated"}), "a")
    kept.cut("a", torch.tensor([False, True]))
    kept.add(fragment(100, 4, envs=2), "a")
    drawn = kept.sample(rng())
    for column, steps, bootstraps in ((0, 3, 103.0), (1, 1, 7.0)):  # at 6, which nothing but the cut can end
        here = (drawn.obs == torch.tensor([6.0, column])).all(1)
        assert here.any()
        expected = 7.0 + (0.9 * 101 + 0.81 * 102 if steps == 3 else 0.0)
        torch.testing.assert_close(drawn.reward[here], torch.full((int(here.sum()),), expected))
        torch.testing.assert_close(drawn.discount[here], torch.full((int(here.sum()),), 0.9**steps))
        assert (drawn.next_obs[here][:, 0] == (102.0 if steps == 3 else bootstraps)).all()


def test_a_cut_before_anything_or_after_a_true_end_changes_nothing():
    kept = buffer(40)
    kept.cut("a", torch.tensor([True]))
    kept.add(fragment(0, 3, ends={2: "terminated"}), "a")
    kept.cut("a", torch.tensor([True]))
    assert kept.ring.data["terminated"][2] and not kept.ring.data["truncated"].any()


def test_a_replay_too_large_for_the_memory_says_so():
    kept = buffer(10**15)
    with pytest.raises(
        UsageError,
        match=r"^To replay 1,000,000,000,000,000 steps takes 40,000,000 GB, .* take a smaller buffer_size\.$",
    ):
        kept.add(fragment(0, 3))
