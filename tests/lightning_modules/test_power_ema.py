"""Power-function averages: closed forms, reconstruction of other widths, resuming, and EDM's ramp of the plain average."""

import pytest
import torch

from lightning_modules.ema import EMA
from lightning_modules.power_ema import PowerEMA, coefficients, correlation, decay, exponent_of, reconstructed, width_of
from tests.lightning_modules.test_model import Line, fit, resume
from tests.lightning_modules.test_staged import fit as fit_staged
from tests.lightning_modules.test_staged import staged

DOUBLE = torch.float64


def track(path, width):
    """The average of a path [T, D] of weights after every step [T, D], by the recursion of eq. 127."""
    average, found = torch.zeros_like(path[0]), []
    for step, weights in enumerate(path, 1):
        keep = decay(step, exponent_of(width))
        average = keep * average + (1 - keep) * weights
        found.append(average)
    return torch.stack(found)


def snapshots(path, widths, every):
    tracked = [track(path, width) for width in widths]
    return [
        {"steps": t, "began": 0, "widths": list(widths), "averages": [{"w": of[t - 1]} for of in tracked]}
        for t in range(every, len(path) + 1, every)
    ]


@pytest.mark.parametrize(("width", "exponent"), [(0.05, 16.97), (0.10, 6.94)])
def test_exponents_are_those_of_the_paper(width, exponent):
    assert exponent_of(width) == pytest.approx(exponent, abs=0.005)
    assert width_of(exponent_of(width)) == pytest.approx(width)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_the_width_is_the_standard_deviation_of_the_weights_of_the_steps(width):
    """The recursion gives step s of T the weight (s^(g+1) - (s-1)^(g+1)) / T^(g+1)."""
    path = torch.eye(500, dtype=DOUBLE)
    profile, s = track(path, width)[-1], torch.arange(1, 501, dtype=DOUBLE) / 500
    mean = (profile * s).sum()
    assert profile.sum() == pytest.approx(1)
    assert ((profile * (s - mean).square()).sum().sqrt()).item() == pytest.approx(width, rel=0.01)


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_a_path_t_to_the_k_has_its_closed_form_average(power, width):
    """The integral of s^k (g+1) s^g / t^(g+1) is t^k (g+1) / (g+1+k), here within 1%."""
    path = torch.arange(1, 1001, dtype=DOUBLE)[:, None] ** power
    gamma = exponent_of(width)
    assert track(path, width)[-1].item() == pytest.approx(1000**power * (gamma + 1) / (gamma + 1 + power), rel=0.01)


def test_correlation_is_the_integral_of_both_profiles():
    s = (torch.arange(200_000, dtype=DOUBLE) + 0.5) / 200_000 * 3

    def profile(time, gamma):
        return torch.where(s < time, (gamma + 1) * s**gamma / time ** (gamma + 1), 0.0)

    for one, other in [((2.0, 7.0), (3.0, 1.5)), ((3.0, 7.0), (2.0, 1.5)), ((2.0, 4.0), (2.0, 9.0))]:
        expected = (profile(*one) * profile(*other)).mean() * 3
        found = correlation(*(torch.tensor(v, dtype=DOUBLE) for v in (*one, *other)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("width", "error"), [(0.05, 1e-9), (0.1, 1e-9), (0.07, 2e-3), (0.15, 2e-3), (0.03, 0.02)])
def test_a_reconstructed_width_is_the_one_that_was_tracked(width, error):
    """Of random walks, over the distance of the two averages that are kept."""
    path = torch.randn(2000, 50, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)).cumsum(0)
    kept = snapshots(path, (0.05, 0.1), 100)
    found, wanted = reconstructed(kept, width)["w"], track(path, width)[-1]
    apart = (kept[-1]["averages"][0]["w"] - kept[-1]["averages"][1]["w"]).norm()
    assert (found - wanted).norm() < error * apart


def test_weights_that_never_moved_are_reconstructed_as_they_are():
    kept = snapshots(torch.full((100, 3), 2.5, dtype=DOUBLE), (0.05, 0.1), 20)
    torch.testing.assert_close(reconstructed(kept, 0.2)["w"], torch.full((3,), 2.5, dtype=DOUBLE))
    assert coefficients([(20, 0.05), (40, 0.05), (40, 0.1)], 40, 0.08).sum() == pytest.approx(1)


def test_snapshots_of_an_earlier_start_do_not_count():
    path = torch.randn(200, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(1)).cumsum(0)
    kept = [state | {"began": 60} for state in snapshots(path, (0.05, 0.1), 50)]
    other = {"steps": 60, "began": 0, "widths": [0.05, 0.1], "averages": [{"w": torch.full((4,), 1e6)}] * 2}
    torch.testing.assert_close(reconstructed([other, *kept], 0.07), reconstructed(kept, 0.07))


def test_the_callback_is_the_recursion_and_keeps_snapshots_on_its_schedule():
    kept, seen = [], []

    class Keep(Line):
        def on_train_batch_end(self, outputs, batch, index):
            seen.append(self.net.weight.detach().clone().double())

    power = PowerEMA((0.05, 0.2), 3, lambda step, state: kept.append((step, state["steps"])))
    fit(Keep(), 8, callbacks=[power], accumulate=1)
    for width, average in zip((0.05, 0.2), power.averages, strict=True):
        wanted = track(torch.stack(seen), width)[-1]
        torch.testing.assert_close(average["net.weight"].double(), wanted, rtol=1e-5, atol=1e-6)
    assert kept == [(3, 3), (6, 6)] and power.steps == 8


@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_is_exact(accumulate, tmp_path):
    def made():
        return PowerEMA((0.05, 0.1), 4, lambda step, state: None)

    straight = made()
    fit(Line(), 8, accumulate=accumulate, callbacks=[straight])
    half = fit(Line(), 3, accumulate=accumulate, callbacks=[made()])
    half.save_checkpoint(tmp_path / "half.ckpt")
    again = made()
    resume(Line(), tmp_path / "half.ckpt", again, start=3 * accumulate, accumulate=accumulate)
    assert again.steps == straight.steps == 8
    for one, two in zip(straight.averages, again.averages, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_averages_begin_again_with_each_stage(monkeypatch):
    made = PowerEMA((0.1,), 100, lambda step, state: None)
    monkeypatch.setattr("tests.lightning_modules.test_staged.EMA", lambda decay: made)
    fit_staged(staged(5, 4), 9)
    assert (made.began, made.steps) == (5, 4)


def test_wrong_widths_and_other_states_are_refused():
    for width in (0.0, -0.1, 0.29, float("nan")):
        with pytest.raises(ValueError, match=r"above 0 and below 0\.2887"):
            PowerEMA((width,), 1, lambda step, state: None)
    with pytest.raises(ValueError, match="at least one width"):
        PowerEMA((), 1, lambda step, state: None)
    power = PowerEMA((0.1,), 1, lambda step, state: None)
    with pytest.raises(ValueError, match=r"of the widths \[0.05\], and now they are \[0.1\]"):
        power.load_state_dict({"steps": 1, "began": 0, "widths": [0.05], "averages": [{}]})
    power.load_state_dict({"steps": 1, "began": 0, "widths": [0.1], "averages": [{"net.weight": torch.zeros(2, 2)}]})
    with pytest.raises(ValueError, match="not those of this model"):
        fit(Line(), 1, callbacks=[power])


@pytest.mark.parametrize("step", [1, 20, 400, 5000])
def test_the_half_life_ramps_up_with_the_steps(step):
    """min(decay, 0.5^(1 / (0.05 n))): a half-life of 5% of the steps, and at most that of the decay, 100 steps."""
    ema = EMA(0.5**0.01, 0.05)
    ema.average, ema._weights, ema.steps = {"w": torch.ones(1, dtype=DOUBLE)}, [torch.zeros(1, dtype=DOUBLE)], step - 1
    ema.update()
    assert ema.average["w"].item() == pytest.approx(0.5 ** (1 / min(100, 0.05 * step)))
    with pytest.raises(ValueError, match="must be at least 0"):
        EMA(0.9, -1.0)
