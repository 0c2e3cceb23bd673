"""Monte Carlo methods against exact values, the exact bias of every visit, plain loops, and the exact value of blackjack."""

import gymnasium as gym
import numpy as np
import pytest

from ray_jobs import cli
from ray_jobs.distributed.crew import Here
from ray_jobs.recipe.process import generator
from ray_jobs.tabular.controlled import soft, softened
from ray_jobs.tabular.draws import Simulator
from ray_jobs.tabular.dynamic_programming import policy_iteration
from ray_jobs.tabular.environments import of_environment
from ray_jobs.tabular.episodic import monte_carlo, monte_carlo_control
from ray_jobs.tabular.episodic.episodes import play, play_policy
from ray_jobs.tabular.episodic.monte_carlo import MonteCarlo
from ray_jobs.tabular.episodic.monte_carlo_control import EpsilonSoft, ExploringStarts, OffPolicy, can_go_on
from ray_jobs.tabular.episodic.visits import every_visit_bias
from ray_jobs.tabular.examples.blackjack import blackjack, pair, state_number, stick_on_20
from ray_jobs.tabular.examples.loops import infinite_variance, left, loop
from ray_jobs.tabular.mdp import performance, state_values, uniform_policy
from ray_jobs.tabular.walks import random_walk
from tests.ray_jobs.processes import run, three_ways

WALK = "ray_jobs.tabular.walks:random_walk"
CONTROL = [ExploringStarts, EpsilonSoft, OffPolicy]


# ---- blackjack


@pytest.mark.parametrize(
    ("sab", "want"), [(True, (-0.0431131, -0.3501111, -0.3941746)), (False, (-0.0465560, -0.3535540, -0.3958960))]
)
def test_a_game_of_blackjack_has_the_known_values(sab, want):
    mdp = blackjack(sab)
    assert mdp.start.sum() == pytest.approx(1)
    found = (
        mdp.start @ policy_iteration(mdp).values,
        performance(mdp, stick_on_20(mdp)),
        performance(mdp, uniform_policy(mdp)),
    )
    assert found == pytest.approx(want, abs=6e-8)


def test_a_hand_of_blackjack_has_the_known_value():
    """Sutton & Barto 2018, example 5.4."""
    mdp = blackjack(total=13, ace=True, dealer=2)
    assert performance(mdp, stick_on_20(mdp)) == pytest.approx(-0.2772042, abs=6e-8)
    with pytest.raises(ValueError, match=r"^A game cannot start with a sum of 11, ace True, dealer 2"):
        blackjack(total=11, ace=True, dealer=2)


def test_gymnasium_plays_the_same_game():
    """5,000 games with its rules and its first hands: their mean result under a policy is that of the table (4 standard errors)."""
    env, mdp = gym.make("Blackjack-v1").unwrapped, blackjack()
    values = state_values(mdp, stick_on_20(mdp))
    differences = []
    env.reset(seed=0)
    for _ in range(5_000):
        (total, dealer, _), _ = env.reset()
        first, over = values[state_number(pair(*env.player), dealer)], False
        while not over:
            (total, _, _), reward, over, _, _ = env.step(int(total < 20))
        differences.append(reward - first)
    assert abs(np.mean(differences)) < 4 * np.std(differences) / np.sqrt(len(differences))


# ---- prediction


def test_every_visit_has_the_known_bias_on_a_loop():
    mdp = loop(0.6)
    n = np.array([1, 2, 5, 20, 1_000])
    found = every_visit_bias(mdp, uniform_policy(mdp), uniform_policy(mdp), n)
    np.testing.assert_allclose(found, 1.5 * n / (n + 1) - 1.5, rtol=1e-9)


CASES = {
    "first": MonteCarlo(WALK, {"left": -2.0}, gamma=0.9),
    "every": MonteCarlo(WALK, {"left": -2.0}, gamma=0.9, visits="every"),
    "off-policy first": MonteCarlo(WALK, {"states": 3, "left": -2.0}, "best", "uniform", 0.9, runs=4_000),
    "off-policy every": MonteCarlo(WALK, {"states": 3, "left": -2.0}, "best", "uniform", 0.9, "every", runs=4_000),
}


@pytest.mark.parametrize("name", CASES)
def test_runs_have_the_exact_mean_error(name):
    """False alarms: 6 of 100,000; that of one more episode, or of first visits, is many errors away where it is not 0."""
    process = CASES[name]
    state = run(process, 2, seed=1)
    found = process.result(state, 1, Here())
    assert found["z"] <= 4
    assert (found["exact_bias"] != 0) == (process.visits == "every")


@pytest.mark.parametrize("weights", ["ordinary", "weighted"])
@pytest.mark.parametrize("visits", ["first", "every"])
def test_averages_are_those_of_a_plain_loop(visits, weights):
    process = MonteCarlo(WALK, {"states": 4}, "best", "uniform", 0.9, visits, weights, runs=5)
    state = run(process, 3, seed=4)
    sums, counts = np.zeros((5, 4)), np.zeros((5, 4))
    mdp = random_walk(4)
    for step in range(3):
        steps = play_policy(Simulator.of(mdp), state["behaviour"], 5, generator(4, step, 0))
        for i in range(5):
            own = [(int(x.s[k]), int(x.a[k]), float(x.reward[k])) for x in steps for k in np.flatnonzero(x.rows == i)]
            for t, (s, _, _) in enumerate(own):
                if visits == "first" and s in [x[0] for x in own[:t]]:
                    continue
                g = sum(0.9**k * r for k, (_, _, r) in enumerate(own[t:]))
                rho = np.prod([state["target"][s, a] / state["behaviour"][s, a] for s, a, _ in own[t:]])
                sums[i, s] += rho * g
                counts[i, s] += rho if weights == "weighted" else 1
    np.testing.assert_allclose(state["sums"], sums, atol=1e-12)
    np.testing.assert_allclose(state["weights"], counts, atol=1e-12)


def test_weighted_importance_sampling_is_exact_after_one_success_and_ordinary_is_not():
    """Sutton & Barto 2018, example 5.5: the value is 1, and the variance of ordinary importance sampling infinite."""
    env, policy = (f"ray_jobs.tabular.examples.loops:{name}" for name in ("infinite_variance", "left"))
    process = {w: MonteCarlo(env, None, policy, "uniform", weights=w, runs=100) for w in ("ordinary", "weighted")}
    found = {w: run(p, 50) for w, p in process.items()}
    weighted = found["weighted"]
    succeeded = weighted["weights"] > 0
    assert succeeded.mean() > 0.5
    assert (weighted["sums"] == weighted["weights"])[succeeded].all()
    assert np.abs(found["ordinary"]["sums"] / 50 - 1).max() > 0.5
    assert "z" not in process["ordinary"].result(found["ordinary"], 0, Here())


def test_an_eigenvalue_shows_whether_the_variance_is_finite():
    """Example 5.5's variance is infinite because 0.9 * 2 is above 1; with a discount it is finite below gamma^2 = 1 / 1.8."""
    for gamma, finite in ((1.0, False), (0.75, False), (0.74, True)):
        mdp = infinite_variance(gamma)
        assert monte_carlo.radius(mdp, left(mdp), uniform_policy(mdp)) == pytest.approx(1.8 * gamma**2)
        assert (1.8 * gamma**2 < 1) == finite
    mdp = blackjack()
    assert monte_carlo.radius(mdp, stick_on_20(mdp), uniform_policy(mdp)) < 1e-3, "no hand comes back"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"env": "ray_jobs.tabular.mdp:random_mdp"}, "need not end under the policy uniform"),
        ({"env": WALK, "behaviour": "ray_jobs.tabular.examples.loops:left"}, "never takes some actions of uniform"),
        ({"policy": "worst"}, "There is no policy worst"),
        ({"policy": "ray_jobs.tabular.mdp:nothing"}, "There is no policy ray_jobs.tabular.mdp:nothing"),
        ({"policy": "ray_jobs.tabular.mdp:state_rewards"}, "There is no policy ray_jobs.tabular.mdp:state_rewards"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_sentence(settings, said):
    with pytest.raises(ValueError, match=said) as error:
        MonteCarlo(**settings).begin(0)
    assert "\n" not in str(error.value)


# ---- control


@pytest.mark.parametrize("of", CONTROL)
def test_control_learns_blackjack(of):
    """The exact regret after 60,000 games, and what the first batch leaves: policies of chance lose 0.35 more than the best."""
    process = of(runs=2, batch=500)
    state = run(process, 120)
    assert process.result(state, 0, Here())["regret"] < 0.03 < state["regrets"][0]
    want = softened(blackjack(), 0.1) if of is EpsilonSoft else blackjack()
    assert state["best"] == pytest.approx(want.start @ policy_iteration(want).values)


def test_off_policy_control_is_the_books_rule():
    """By a plain loop over the episodes of a batch, backwards, which stops at the first action that is not greedy."""
    process = OffPolicy(WALK, {"states": 4}, gamma=0.9, epsilon=0.5, runs=1, batch=30)
    state = run(process, 1, seed=2)
    q = monte_carlo_control.values(state["sums"], state["weights"], 0.0)
    before = {k: v.copy() for k, v in state.items() if k in ("sums", "weights")}
    process.advance(state, 1, 2, Here())
    rng, simulator = generator(2, 1, 0), Simulator.of(random_walk(4))
    which = np.zeros(30, np.int64)
    steps = play(simulator, soft(q, 0.5), which, *process.starts(simulator, soft(q, 0.5), which, rng), rng)
    for i in range(30):
        own = [(int(x.s[k]), int(x.a[k]), float(x.reward[k])) for x in steps for k in np.flatnonzero(x.rows == i)]
        g, w = 0.0, 1.0
        for s, a, r in reversed(own):
            g = r + 0.9 * g
            before["sums"][0, s, a] += w * g
            before["weights"][0, s, a] += w
            if q[0, s, a] < q[0, s].max():
                break
            w *= soft(q[0, s], 0.0)[a] / soft(q[0, s], 0.5)[a]
    np.testing.assert_allclose(state["sums"], before["sums"], atol=1e-12)
    np.testing.assert_allclose(state["weights"], before["weights"], atol=1e-12)


def test_exploring_starts_need_episodes_that_always_end():
    assert not can_go_on(blackjack())
    assert not can_go_on(random_walk(1))
    assert can_go_on(random_walk(2))
    assert can_go_on(of_environment("CliffWalking-v1", 1.0))
    with pytest.raises(ValueError, match=r"^Some policies never end an episode of CliffWalking-v1"):
        ExploringStarts("CliffWalking-v1").begin(0)
    with pytest.raises(ValueError, match=r"need not end: Monte Carlo"):
        EpsilonSoft("ray_jobs.tabular.mdp:random_mdp").begin(0)


# ---- as studies


@pytest.mark.parametrize(
    "process",
    [MonteCarlo(WALK, runs=2_500, visits="every"), OffPolicy(runs=4, batch=1_000)],
    ids=lambda p: type(p).__name__,
)
def test_the_bits_are_the_same_after_a_checkpoint_and_on_workers(process, ray_cluster):
    whole, parted, spread = three_ways(process)
    for name in ("sums", "weights"):
        assert (whole[name] == parted[name]).all() and (whole[name] == spread[name]).all()


def test_as_a_user_meets_it(tmp_path, capsys):
    assert (
        cli.main(
            [
                "train",
                "mc_prediction",
                "--runs",
                "50",
                "--steps",
                "3",
                "--visits",
                "every",
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    assert "exact_bias" in capsys.readouterr().out
    control = ["train", "mc_blackjack", "--steps", "2", "--batch", "50", "--out", str(tmp_path / "control")]
    assert cli.main(control) == 0
    assert "best_start_value" in capsys.readouterr().out
    names = ["run/error.png", "run/bias.png", "control/regret.png", "control/value.png"]
    assert all((tmp_path / name).stat().st_size > 5_000 for name in names)
    assert cli.main(["train", "mc_blackjack", "--env", "Taxi-v4", "--out", str(tmp_path / "no")]) == 2
    said = capsys.readouterr().err
    assert "never end an episode of Taxi-v4" in said and said.count("\n") == 1
