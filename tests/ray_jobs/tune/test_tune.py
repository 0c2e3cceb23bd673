"""Searches: stopped early, killed and continued, exchanged weights, written down; with a training that is a formula."""

import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ray_jobs.cli import main
from ray_jobs.command import requests
from ray_jobs.errors import UsageError
from ray_jobs.recipe.spec import Spec, Where
from ray_jobs.run.folder import Run
from ray_jobs.train.launch import launch
from ray_jobs.tune import population, search, trial, trials
from ray_jobs.tune.leaderboard import Leaderboard
from ray_jobs.tune.ray_tune import _scheduler, _searcher
from ray_jobs.tune.search_report import conclude
from ray_jobs.tune.trial import Task
from ray_jobs.tune.trials import Trial
from ray_jobs.tune.tune import tune

STEPS = 50
SPACE = {"lr": "loguniform(1e-5,1e-1)"}


def score(lr):
    """Best, 0, at lr = 1e-3."""
    return -((math.log10(lr) + 3) ** 2)


def formula(given, report, stop_requested, pause=0.0):
    """A training: `loss` falls to -score; a failing one where lr < 1e-5; it continues where it was."""
    at = Path(given.out)
    run = Run.open(at).lock() if (at / "run.json").exists() else Run.create(given, kind="Fit", command=["formula"])
    try:
        lr = given.settings["lr"]
        if lr < 1e-5:
            raise FloatingPointError("the loss is nan at step 3")
        for step in range(sum(1 for _ in run.metrics()) + 1, STEPS + 1):
            time.sleep(pause)
            run.log(step, {"loss": -score(lr) + 1 / step})
            report({"step": step, "steps": STEPS})
            if stop_requested():
                return
        run.finish({"score": score(lr)}, step=STEPS, device="cpu")
    finally:
        run.release()


def made(space=None, scheduler="asha", trials=8, how="random", recipe="ddpm_digits", metric="score", seed=0):
    return search.make(
        recipe, space=space or SPACE, settings={}, trials=trials, scheduler=scheduler, search=how,
        metric=metric, mode="max", seed=seed, where=Where(), start={},
    )  # fmt: skip


def by_value():
    """Let Ray's processes, which cannot import this file, have its functions."""
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


# ---- one trial, without Ray


@pytest.fixture()
def often(monkeypatch):
    """Trials that report each percent, however fast they are."""
    monkeypatch.setattr(trial, "SELDOM", 0.0)


def test_a_trial_reports_each_percent_once_and_then_its_score(often, tmp_path):
    reports = []
    task = Task(made(), str(tmp_path), formula)
    done = trial.run(task, trial.begin(tmp_path, 3, {"lr": 1e-3}), lambda metrics, _: reports.append(metrics))
    percents = [m["percent"] for m in reports[:-1]]
    assert percents == sorted(set(percents))
    assert percents[-1] < 100
    assert reports[-1] == {"score": 0.0} == {"score": done.score}
    assert trials.load(tmp_path / "trials/0003") == done
    window = [1 / s for s in range(STEPS + 1) if 2 * s >= 99.9 - 10 and s]
    assert reports[-2]["progress"] == pytest.approx(sum(window) / len(window))


def test_a_finished_trial_says_the_same_again_and_is_not_trained(tmp_path):
    first, second = [], []
    trial.run(
        Task(made(), str(tmp_path), formula), trial.begin(tmp_path, 0, {"lr": 1e-2}), lambda m, _: first.append(m)
    )
    task = Task(made(), str(tmp_path), lambda *_: pytest.fail("trained again"))
    trial.run(task, trial.begin(tmp_path, 0, {"lr": 9.0}), lambda m, _: second.append(m))
    assert second == first


def test_a_short_trial_reports_what_is_decided_by_and_little_else(tmp_path):
    reports = []
    trial.run(
        Task(made(), str(tmp_path), formula), trial.begin(tmp_path, 0, {"lr": 1e-2}), lambda m, _: reports.append(m)
    )
    assert [m.get("percent") for m in reports] == [12, 36, 99.9, None]


def test_a_trial_that_is_ended_stops_training_and_can_continue(often, tmp_path):
    def tell(metrics, _):
        if metrics["percent"] >= 20:
            raise SystemExit

    task = Task(made(), str(tmp_path), formula)
    with pytest.raises(SystemExit):
        trial.run(task, trial.begin(tmp_path, 0, {"lr": 1e-2}), tell)
    at = tmp_path / "trials/0000"
    assert len(list(Run(at).metrics())) == 10
    assert (trials.load(at).state, trials.load(at).percent, Run(at).result) == ("running", 20, None)
    trial.run(task, trial.begin(tmp_path, 0, {}), lambda *_: None)
    assert [m["step"] for m in Run(at).metrics()] == list(range(1, STEPS + 1))


def test_a_failing_training_is_a_failed_trial_with_its_reason(tmp_path):
    task = Task(made(), str(tmp_path), formula)
    done = trial.run(task, trial.begin(tmp_path, 0, {"lr": 1e-9}), lambda *_: None)
    assert (done.state, done.reason) == ("failed", "the loss is nan at step 3")
    nothing = Task(made(metric="other"), str(tmp_path), formula)
    done = trial.run(nothing, trial.begin(tmp_path, 1, {"lr": 1e-3}), lambda *_: None)
    assert "no number 'other'; it has: score" in done.reason


def test_ranking_puts_the_finished_first_and_nan_last():
    def finished(number, value):
        return Trial(number, {}, "finished", score=value)

    some = [finished(0, 1.0), finished(1, 3.0), Trial(2, {}, "stopped", ((12, 9.0),)), finished(3, math.nan)]
    some += [Trial(4, {}, "failed", reason="x"), Trial(5, {}, "stopped", ((36, 1.0),))]
    assert [t.number for t in trials.ranked(some, "max", "max")] == [1, 0, 3, 5, 2, 4]
    assert trials.best(some, "min", "max").number == 0
    assert trials.best(some[2:3] + some[4:], "max", "max").number == 5
    assert trials.best(some[4:5], "max", "max") is None


# ---- population-based training


@pytest.mark.parametrize(("recipe", "space", "name"), [
    ("ddpm_digits", {"width": "choice(16,24)"}, "width"),
    ("ppo_cartpole", {"envs": "choice(32,64)"}, "envs"),
    ("ppo_cartpole", {"steps": "randint(1000,2000)"}, "steps"),
])  # fmt: skip
def test_a_population_refuses_what_cannot_change(recipe, space, name):
    with pytest.raises(UsageError, match=f"cannot change '{name}'"):
        population.refuse(made({"lr": "uniform(1e-4,1e-3)"} | space, "pbt", recipe=recipe))


def test_a_population_may_change_what_can():
    population.refuse(made({"lr": "uniform(1e-4,1e-3)", "dropout": "uniform(0,0.3)"}, "pbt"))
    population.refuse(made({"clip": "uniform(0.1,0.3)", "epochs": "randint(2,9)"}, "pbt", recipe="ppo_cartpole"))


def scheduled(lr, steps):
    """An optimiser and its schedule, `steps` steps into a training that halves the learning rate at each."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(steps):
        optimizer.step()
        schedule.step()
    return optimizer, schedule


def test_a_new_learning_rate_replaces_the_one_in_the_checkpoint_where_the_schedule_is():
    optimizer, schedule = scheduled(0.1, 3)
    state = {"optimizer_states": [optimizer.state_dict()], "lr_schedulers": [schedule.state_dict()]}
    population.retune(state, scheduled(0.1, 0)[0].param_groups, scheduled(0.4, 0)[0].param_groups)
    resumed, its_schedule = scheduled(0.4, 0)
    resumed.load_state_dict(state["optimizer_states"][0])
    its_schedule.load_state_dict(state["lr_schedulers"][0])
    true, true_schedule = scheduled(0.4, 3)
    assert resumed.param_groups[0]["lr"] == pytest.approx(true.param_groups[0]["lr"])
    its_schedule.step()
    true_schedule.step()
    assert resumed.param_groups[0]["lr"] == pytest.approx(true.param_groups[0]["lr"])


def test_a_trial_takes_over_anothers_checkpoint_with_its_new_settings(tmp_path):
    task = Task(made(scheduler="pbt", recipe="ppo_cartpole"), str(tmp_path), formula)
    donor, taker = (trial.begin(tmp_path, n, {"lr": 1e-3 * (n + 1)}) for n in (0, 1))
    for one, step in ((donor, 40), (taker, 90)):
        Run.create(task.spec(one), kind="Play", command=["x"]).release()
        groups = population.assemble(task.spec(one))[2]
        optimizer = torch.optim.Adam([torch.ones(2)], groups[0]["lr"])
        Run(Path(task.spec(one).out)).save(step, {"o": optimizer.state_dict(), "w": torch.full((2,), one.number)})
    packed = tmp_path / "packed"
    packed.mkdir()
    population.pack(donor, Run(tmp_path / "trials/0000").checkpoints()[0], packed)
    assert population.adopt(task.spec(donor), donor, packed, {"lr": 9.0}) == donor
    taken = population.adopt(task.spec(taker), taker, packed, {"lr": 4e-3})
    run = Run.open(tmp_path / "trials/0001")
    assert (taken.settings, len(taken.history), run.spec.settings["lr"]) == ({"lr": 4e-3}, 1, 4e-3)
    assert [p.name for p in run.checkpoints()] == ["step-0000000040.ckpt"]
    state = run.latest()
    assert state["w"].tolist() == [0, 0]
    assert state["o"]["param_groups"][0]["lr"] == pytest.approx(4e-3)
    assert population.adopt(task.spec(taken), taken, packed, {"lr": 8e-3}) == taken


# ---- what is refused, before anything starts


@pytest.mark.parametrize(("words", "sentence"), [
    ("ddpm_digits --space.lr loguniorm(1,2)", "Did you mean 'loguniform'|did you mean 'loguniform'"),
    ("ddpm_digits --space.lrr uniform(1,2)", "no setting 'lrr'"),
    ("ddpm_digits --space.steps uniform(1.0,2.5)", "takes int"),
    ("ddpm_digits --lr 1e-3 --space.lr uniform(0.1,0.2)", "both fixed and varied"),
    ("ddpm_digits --scheduler ashaa", "Did you mean 'asha'"),
    ("ddpm_digits --search optuna --scheduler pbt", "takes no --search optuna"),
    ("ddpm_digits --search optuna --space.lr grid(0.1,0.2)", "instead of grid"),
    ("ddpm_digits --metric beauty", "--mode min or --mode max"),
    ("ddpm_digits --trials 0", "at least 1"),
    ("ddpm_digits --concurrent 0", "at least 1"),
    ("ddpm_digits --out s3://bucket/x", "no path"),
])  # fmt: skip
def test_a_search_that_cannot_be_is_refused_in_one_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *words.split(" ")]) == 2
    said = capsys.readouterr().err
    assert any(s in said for s in sentence.split("|"))
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_holds_one_search_which_may_grow(tmp_path):
    search.enter(tmp_path, made(trials=8))
    assert search.enter(tmp_path, made(trials=12)).trials == 12
    with pytest.raises(UsageError, match="another search: its scheduler is 'asha', not 'none'"):
        search.enter(tmp_path, made(scheduler="none"))
    assert search.load(tmp_path).trials == 12


def test_resume_takes_a_search_as_it_is(tmp_path):
    with pytest.raises(UsageError, match="holds no search to resume"):
        tune(Spec("ddpm_digits"), resume=str(tmp_path))
    search.enter(tmp_path, made(trials=8))
    with pytest.raises(UsageError, match="a search of ddpm_digits, not of ppo_cartpole"):
        tune(Spec("ppo_cartpole"), resume=str(tmp_path))
    with pytest.raises(UsageError, match="leave out 'lr'"):
        tune(Spec("ddpm_digits", {"lr": 1.0}), resume=str(tmp_path))
    for name, value in {"scheduler": "pbt", "search": "optuna", "metric": "loss", "mode": "min"}.items():
        with pytest.raises(UsageError, match=f"leave out '{name}'"):
            tune(resume=str(tmp_path), **{name: value})
    with pytest.raises(UsageError, match="--concurrent must be at least 1"):
        tune(resume=str(tmp_path), concurrent=0)  # the search itself is accepted


def test_optuna_proposes_what_was_unfinished_first_and_then_something_new(tmp_path):
    wanted = made(how="optuna", scheduler="none")
    fresh = _searcher(wanted, tmp_path / "a", [])
    proposed = [fresh.suggest(str(i))["trial"]["settings"]["lr"] for i in range(3)]
    assert len({*proposed}) == 3
    had = [Trial(0, {"lr": 2e-4}), Trial(1, {"lr": 1e-2}, "finished", score=1.0), Trial(2, {"lr": 3e-3})]
    again = _searcher(wanted, tmp_path / "b", had)
    replayed = [again.suggest(str(i))["trial"] for i in range(3)]
    assert [r["number"] for r in replayed] == [0, 2, 3]
    assert [r["settings"] for r in replayed[:2]] == [had[0].settings, had[2].settings]
    assert replayed[2]["settings"]["lr"] not in proposed
    assert [t.number for t in trials.load_all(tmp_path / "b")] == [0, 2, 3]
    again.on_trial_complete("0", {"score": 1.0})
    again.on_trial_complete("1", {"percent": 12.0})


def test_optuna_continues_what_the_trials_had_taught_it(tmp_path):
    """Decades off the best lr: of uniform proposals 1 on average, and the mean of eight below 0.5 about once in 150."""
    lrs = [10.0 ** -(1 + 4 * i / 19) for i in range(20)]
    ended = [Trial(i, {"lr": lr}, "finished", score=score(lr)) for i, lr in enumerate(lrs)]
    ended[0] = Trial(0, {"lr": lrs[0]}, "stopped", ((12, 1.0),))
    ended[1] = Trial(1, {"lr": lrs[1]}, "failed", reason="nan")
    off = []
    for seed in range(8):
        searcher = _searcher(made(how="optuna", scheduler="none", seed=seed), tmp_path / str(seed), ended)
        off.append(abs(math.log10(searcher.suggest("next")["trial"]["settings"]["lr"]) + 3))
    assert sum(off) / len(off) < 0.5


@pytest.mark.parametrize(
    "expression",
    [
        "uniform(0.1, 0.9)", "loguniform(1e-5, 1)", "quniform(0.05, 0.9, 0.1)", "quniform(0.05, 0.19, 0.1)", "quniform(1, 9, 3)",
        "quniform(0, 1e6, 0.25)", "randint(0, 1)", "randint(1, 9)", "lograndint(1, 1000)", "choice(0.1, 0.2)", "choice(1, 1.0, True)",
        "choice([1, 2], [3])", "choice(none, a)", "choice({'a': 1}, {})", "choice(7)",
    ],
)  # fmt: skip
def test_optuna_takes_what_random_search_takes(expression, tmp_path):
    wanted = replace(made(how="optuna", scheduler="none"), space={"x": expression})
    dimension = wanted.dimensions["x"]
    drawn = _searcher(wanted, tmp_path, [])
    values = [drawn.suggest(str(i))["trial"]["settings"]["x"] for i in range(6)]
    possible = [dimension.at(i / 5000) for i in range(5000)]
    for value in values:
        assert value in dimension and (len({*map(str, possible)}) > 100 or value in possible)
    known = trials.load_all(tmp_path)
    ended = [replace(t, state="finished", score=float(i)) if i % 2 else t for i, t in enumerate(known)]
    again = _searcher(wanted, tmp_path, ended)
    replayed = [again.suggest(str(i))["trial"]["settings"]["x"] for i in range(4)]
    assert json.dumps(replayed[:3]) == json.dumps([values[0], values[2], values[4]]) and replayed[3] in dimension


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_score_that_is_no_number_fails_the_trial_with_the_reason(bad, tmp_path):
    task = Task(made(), str(tmp_path), formula)
    for number, score in enumerate([bad, 1.0]):
        started = trial.begin(tmp_path, number, {"lr": 1e-3})
        run = Run.create(task.spec(started), kind="Fit", command=["formula"])
        run.finish({"score": score, "other": 2.0}, step=1, device="cpu")
        run.release()
        done = trial.run(task, started, lambda metrics, checkpoint: None)
        assert done.state == ("failed" if number == 0 else "finished")
    found = trials.load_all(tmp_path)
    assert found[0].reason.startswith(f"the result has no number 'score' but {bad}; it has: score")
    assert trials.best(found, "max", "min").number == trials.best(found, "min", "min").number == 1


def test_a_search_from_before_with_an_infinite_score_is_concluded(tmp_path, capsys):
    wanted = search.enter(tmp_path, made(trials=3))
    for number, value in enumerate([math.inf, 0.5, 1e308]):
        trials.save(trials.folder(tmp_path, number), Trial(number, {"lr": 10.0**-number}, "finished", score=value))
    trials.save(trials.folder(tmp_path, 3), Trial(3, {"lr": 0.5}, "finished", score=-1e308))
    assert conclude(Leaderboard(wanted, tmp_path), tmp_path, False, False) == 0
    shown = " ".join(capsys.readouterr().out.split())  # the table may break a long state
    assert "its score is inf" in shown and "Best: trial 0002" in shown
    assert (tmp_path / "best.yaml").read_text().splitlines()[1] == "lr: 0.01"


def test_a_dollar_in_a_name_is_drawn_as_one(tmp_path):
    some = [Trial(n, {"kind": f"$a_{n}", "$x$": n}, "finished", score=float(n)) for n in range(3)]
    assert trials.plot(tmp_path, some, "$\\frac{$", "max")


def test_asha_continues_what_the_trials_had_reached():
    class Arrived:
        trial_id = "new"

    ended = [Trial(i, {}, "finished", ((12, 1.0), (36, 0.5)), score=0.0) for i in range(3)]
    for known, decision in (([], "CONTINUE"), (ended, "STOP")):
        asha = _scheduler(made(), known, at_once=2)
        asha.on_trial_add(None, Arrived)
        assert asha.on_trial_result(None, Arrived, {"percent": 12, "progress": 2.0}) == decision


# ---- whole searches on Ray


def test_asha_stops_bad_trials_and_the_best_settings_train(ray_cluster, tmp_path, capfd):
    by_value()
    given = Spec("ddpm_digits", {"batch": 32}, seed=1, out=str(tmp_path))
    assert tune(given, space=SPACE, metric="score", mode="max", trials=10, concurrent=1, train=formula) == 0
    found = trials.load_all(tmp_path)
    assert len(found) == 10
    stopped = [t for t in found if t.state == "stopped"]
    finished = [t for t in found if t.state == "finished"]
    assert stopped and finished and len(stopped) + len(finished) == 10
    assert all(len(list(Run(trials.folder(tmp_path, t.number)).metrics())) < STEPS for t in stopped)
    best = max(finished, key=lambda t: score(t.settings["lr"]))
    assert best.settings["lr"] == min((t.settings["lr"] for t in found), key=lambda lr: abs(math.log10(lr) + 3))
    request = requests.parse(["train", "ddpm_digits", "--config", str(tmp_path / "best.yaml")])
    assert request.spec.settings == {"batch": 32, **best.settings}
    assert json.loads((tmp_path / "trials.json").read_text())[0]["number"] == best.number
    assert (tmp_path / "trials.csv").read_text().count("\n") == 11
    assert (tmp_path / "tune.png").read_bytes().startswith(b"\x89PNG")
    said = capfd.readouterr().out
    assert f"Best: trial {best.name}" in said
    assert f"10 trials: {len(finished)} finished, {len(stopped)} stopped early." in said
    assert f"10/10 trials ({len(stopped)} stopped early)" in said


@pytest.mark.parametrize(("recipe", "settings", "name"), [
    ("ddpm_mixture2d", {"steps": 4, "levels": 25, "width": 16, "batch": 32, "log_every": 2}, "noise_excess"),
    ("pd_mixture2d", {"steps": 6, "batch": 64, "width": 8, "depth": 1, "first": 8, "halvings": 1, "warmup": 2}, "w2_ratio_4"),
    ("ppo_cartpole", {"steps": 1024, "eval_episodes": 2, "log_every": 256, "envs": 8}, "episode_return"),
    ("gan_grid", {"steps": 6, "batch": 32, "width": 16, "log_every": 2}, "modes_hit"),
    ("maf_density2d", {"steps": 10, "batch": 64, "log_every": 2}, "excess_nats"),
    ("made_ising", {"steps": 10, "batch": 64, "log_every": 2}, "kl"),
    ("vae_ppca", {"steps": 10, "batch": 64, "log_every": 2}, "gap_nats"),
])  # fmt: skip
def test_real_recipes_are_tuned_and_leave_runs_to_work_with(recipe, settings, name, ray_cluster, tmp_path):
    given = Spec(recipe, settings, out=str(tmp_path))
    assert tune(given, space={"lr": "choice(1e-4,1e-3)"}, trials=3, concurrent=1, quiet=True) == 0
    best = next(t for t in trials.load_all(tmp_path) if t.state == "finished")
    found = Run.open(trials.folder(tmp_path, best.number))
    assert found.result["metrics"][name] == best.score
    assert found.result["splits"][name].startswith("validation")
    assert found.latest() is not None
    again = launch(replace(found.spec, out=str(tmp_path / "again")))
    assert again.result["metrics"][name] == best.score
    words = ["train", recipe, "--config", str(tmp_path / "best.yaml"), "--out", str(tmp_path / "final"), "--quiet"]
    assert main(words) == 0
    final = Run.open(tmp_path / "final").result
    assert "validation" not in final["splits"][name]
    if recipe not in (
        "gan_grid",
        "made_ising",
        "pd_mixture2d",
    ):  # too coarse after a few steps; exact; of samples alone
        assert final["metrics"][name] != best.score
