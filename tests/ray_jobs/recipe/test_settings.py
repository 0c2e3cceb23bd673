"""Settings: what a recipe takes, and one sentence for everything that it does not."""

import math

import pytest

from ray_jobs.command.requests import parse
from ray_jobs.errors import UsageError
from ray_jobs.recipe import settings
from ray_jobs.recipe.declare import Claim
from ray_jobs.recipe.loading import names, recipe, systems
from ray_jobs.recipe.plan import Play
from ray_jobs.recipe.spec import Where
from ray_jobs.rl.algorithms.policy_gradient.ppo import PPO
from ray_jobs.rl.learning.setup import check as check_play


def test_types_come_from_the_signature_and_the_kind():
    typed = settings.check("ddpm_digits", {"lr": "1e-4", "steps": "10", "grad_clip": "0.5", "compile": "true"})
    assert typed == {"lr": 1e-4, "steps": 10, "grad_clip": 0.5, "compile": True}


def test_an_integer_is_a_float_but_not_the_reverse():
    assert settings.check("ddpm_digits", {"lr": 1}) == {"lr": 1.0}
    with pytest.raises(UsageError, match=r"--steps of ddpm_digits takes int, not '1\.5'"):
        settings.check("ddpm_digits", {"steps": "1.5"})


def test_dashes_are_underscores():
    assert settings.check("ddpm_digits", {"grad-clip": 1.0}) == {"grad_clip": 1.0}


@pytest.mark.parametrize(
    ("name", "given", "where", "sentence"),
    [
        ("ddpm_digit", {}, {}, "There is no recipe 'ddpm_digit'. Did you mean 'ddpm_digits'"),
        ("ddpm_digits", {"lrr": 1}, {}, "ddpm_digits has no setting 'lrr'. Did you mean 'lr'?"),
        ("ddpm_digits", {"lr": "fast"}, {}, "--lr of ddpm_digits takes float, not 'fast'"),
        ("ddpm_digits", {"precision": "8"}, {}, "32-true | bf16-mixed"),
        ("ddpm_digits", {"steps": 0}, {}, "--steps of ddpm_digits must be at least 1, not 0"),
        ("ddpm_digits", {"ema": 1.0}, {}, "--ema of ddpm_digits must be at least 0 and below 1"),
        ("ddpm_digits", {"grad_clip": -1}, {}, "--grad_clip of ddpm_digits must be at least 0 and finite, not -1.0"),
        ("ddpm_digits", {"lr": float("nan")}, {}, "--lr of ddpm_digits must be a finite number, not nan"),
        ("ppo_cartpole", {"clip": -0.2}, {}, "--clip of ppo_cartpole must be above 0 and finite, not -0.2"),
        ("ppo_cartpole", {"eval_episodes": 0}, {}, "--eval_episodes of ppo_cartpole must be at least 1, not 0"),
        ("dqn_cartpole", {"n_step": 0}, {}, "--n_step of dqn_cartpole must be at least 1, not 0"),
        ("dqn_cartpole", {"epsilon": 1.5}, {}, "--epsilon of dqn_cartpole must be at least 0 and at most 1, not 1.5"),
        ("sac_pendulum", {"tau": 0}, {}, "--tau of sac_pendulum must be above 0 and at most 1, not 0.0"),
        ("ddpm_digits", {"batch": 63}, {"workers": 2}, "does not divide into --workers x --accumulate = 2"),
        ("ddpm_digits", {}, {"runners": 2}, "--runners and --learners are for agents"),
        ("ddpm_digits", {}, {"workers": 0}, "--workers must be at least 1, not 0"),
        ("ddpm_digits", {}, {"accelerator": "tpu"}, "There is no accelerator 'tpu'"),
        ("ppo_cartpole", {}, {"workers": 2}, "--workers and --min_workers are for generative models"),
        ("ddpm_digits", {}, {"workers": 2, "min_workers": 3}, "--min_workers 3 is more than --workers 2"),
        ("ppo_cartpole", {}, {"min_workers": 1}, "--workers and --min_workers are for generative models"),
        ("ppo_cartpole", {"envs": 5}, {"runners": 2}, "do not divide over 2 runners"),
        ("ppo_cartpole", {}, {"runners": 3, "learners": 2}, "cannot be shared by --learners 2"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(name, given, where, sentence):
    with pytest.raises(UsageError) as error:
        settings.check(name, given, Where(**where))
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(n for n, r in systems().items() if isinstance(r.plan, Play)))
def test_every_number_of_an_algorithm_has_a_range(name):
    """One below the lowest is refused, and so is NaN."""
    numbers = [s for s in settings.known(name).values() if s.type in (int, float, int | None, float | None)]
    assert not [s.name for s in numbers if s.range is None]
    for s in numbers:
        for wrong in [s.range.low - 1] if s.type in (int, int | None) else [s.range.low - 1, math.nan]:
            with pytest.raises(UsageError, match=f"^--{s.name} of {name} must be .* not "):
                settings.check(name, {"env": "CartPole-v1", s.name: int(wrong) if s.type is int else wrong})


def test_an_algorithm_made_in_python_is_checked_too():
    plan = Play(PPO(clip=-0.1), "CartPole-v1", 100)
    with pytest.raises(UsageError, match=r"^clip of PPO must be above 0 and finite, not -0\.1\.$"):
        check_play(plan, 0, 1)


def test_a_settings_file(tmp_path):
    good, bad, odd = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "odd.yaml"
    good.write_text("lr: 1e-3\nsteps: 5\n")
    bad.write_text("lr: [1\n")
    odd.write_text("- 1\n")
    assert settings.from_file("ddpm_digits", settings.known("ddpm_digits"), str(good)) == {"lr": 1e-3, "steps": 5}
    for path, sentence in (
        (bad, "is not YAML"),
        (odd, "must hold 'name: value' lines"),
        (tmp_path / "none", "cannot be read"),
    ):
        with pytest.raises(UsageError, match=sentence):
            settings.from_file("ddpm_digits", settings.known("ddpm_digits"), str(path))


def test_an_option_of_the_kind_may_have_a_default_of_the_functions_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from ray_jobs.recipe import Fit, Headline, fit\n\n\n"
        "@fit(system='Toy', data='toy', headline=Headline('me'), steps=5)\n"
        "def mine(*, steps: int = 7, lr: float = 0.5) -> Fit:\n"
        '    """Mine.\n\n    Args:\n        steps: optimiser steps.\n        lr: step size.\n    """\n'
    )
    known = settings.known(str(file))
    assert (known["lr"].default, known["lr"].type, known["steps"].default) == (0.5, float, 5)
    assert (known["lr"].help, known["steps"].help) == ("step size.", "optimiser steps.")
    with pytest.raises(UsageError, match="takes float, not None"):
        settings.check(str(file), {"lr": None})
    with pytest.raises(UsageError, match=r"--lr of .* must be above 0 and finite, not -1"):
        settings.check(str(file), {"lr": -1.0})


def test_arguments_named_as_options_keep_their_defaults_in_the_function_and_in_the_plan(tmp_path):
    file = tmp_path / "named.py"
    file.write_text(
        "from ray_jobs.recipe import Fit, Headline, fit\n\n\n"
        "@fit(system='Toy', data='toy', headline=Headline('me'))\n"
        "def named(*, steps: int = 7, batch: int = 6, size: int = 5, lr: float | None = None, ema: float = 0.25) -> Fit:\n"
        '    """Mine.\n\n    Args:\n        steps: s.\n        batch: b.\n        size: z.\n        lr: l.\n        ema: e.\n    """\n'
        "    return Fit((steps, batch, size, lr, ema), None)\n"
    )
    made = settings.build(str(file), {})
    assert made.model == (7, 6, 5, None, 0.25) and (made.steps, made.batch, made.lr, made.ema) == (7, 6, None, 0.25)
    made = settings.build(str(file), {"steps": 3, "size": 2, "lr": 0.5})
    assert made.model == (3, 6, 2, 0.5, 0.25) and (made.steps, made.batch, made.lr, made.ema) == (3, 6, 0.5, 0.25)


@pytest.mark.parametrize("name", ["seed", "out", "threads"])
def test_a_setting_named_as_an_option_of_the_verb_is_refused(name, tmp_path):
    file = tmp_path / "taken.py"
    file.write_text(
        "from ray_jobs.recipe import Fit, Headline, fit\n\n\n"
        "@fit(system='Toy', data='toy', headline=Headline('me'))\n"
        f"def taken(*, {name}: int = 7) -> Fit:\n"
        f'    """Mine.\n\n    Args:\n        {name}: of mine.\n    """\n'
    )
    with pytest.raises(
        UsageError, match=f"has a setting '{name}', which is an option of 'reprise train': give it another name"
    ):
        parse(["train", str(file)])


def test_a_claim_has_one_bound_and_nan_holds_none():
    with pytest.raises(ValueError, match="exactly one"):
        Claim("x")
    assert Claim("x", at_least=1).holds(1) and not Claim("x", at_least=1).holds(0.9)
    assert Claim("x", at_most=1).holds(1) and not Claim("x", at_most=1).holds(float("nan"))


@pytest.mark.parametrize("name", names())
def test_every_recipe_says_what_it_is(name):
    found = recipe(name)
    assert found.title and found.system and found.data and found.headline.paper
    assert found.claim is None or isinstance(found.claim, Claim)
    known = settings.known(name)
    assert all(s.help for s in known.values()), [s.name for s in known.values() if not s.help]
    assert "steps" in known and set(found.space) <= set(known)
    assert settings.check(name, {k: s.default for k, s in known.items() if s.default is not None}) is not None


def test_a_variant_is_its_recipe_but_for_what_it_says():
    own, other = recipe("maf_density2d"), recipe("maf_density2d@moons")
    assert (other.system, other.headline, other.space) == (own.system, own.headline, own.space)
    assert other.claim == own.variants["moons"].claim != own.claim and other.data != own.data
    theirs, ours = settings.known("maf_density2d@moons"), settings.known("maf_density2d")
    changed = {k: theirs[k].default for k in ours if theirs[k] != ours[k]}
    assert changed == own.variants["moons"].settings
    assert settings.known("maf_density2d")["density"].default != "moons", "the recipe itself was changed"


@pytest.mark.parametrize("name", [n for n in names() if "@" in n])
def test_a_variant_changes_settings_that_there_are(name):
    base, _, which = name.partition("@")
    changed = recipe(base).variants[which].settings
    assert changed and set(changed) <= set(settings.known(base)) and settings.check(base, changed) == changed


@pytest.mark.parametrize("name", ["maf_density2d@moon", "nothing@moons", "ppo_cartpole@moons"])
def test_a_variant_that_is_not_there_is_refused(name):
    with pytest.raises(UsageError, match=r"There is no recipe '"):
        recipe(name)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            None,
            "lab.mine cannot be imported: Python's path has no such module; write its file, such as lab/mine.py, or set PYTHONPATH=.",
        ),
        ("1 +", r"lab/mine.py cannot be imported: SyntaxError: .*mine\.py, line 1\)"),
        ("\nx = y", r"lab/mine.py cannot be imported: NameError: .*mine\.py, line 2\)"),
        ("import nothing_of_the_kind", r"lab/mine.py cannot be imported: ModuleNotFoundError: .*mine\.py, line 1\)"),
        ("x = 1", "does not name one recipe"),
    ],
)
def test_a_users_module_that_cannot_be_imported_is_one_sentence(text, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    if text is not None:
        (tmp_path / "lab/mine.py").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        recipe("lab.mine" if text is None else "lab/mine.py")


def test_a_module_that_lies_here_is_named_by_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/mine.py").touch()
    with pytest.raises(UsageError, match=r"its file is here: write lab/mine\.py"):
        recipe("lab.mine")


def test_fields_of_a_base_class_in_the_same_file_are_settings_too(tmp_path):
    """Once each, those of the base first; a base of another file has none of the settings."""
    file = tmp_path / "methods.py"
    file.write_text(
        'class Base(Elsewhere):\n    rate: float = 0.5\n    """Step size."""\n\n\n'
        'class Mine(Base, Other):\n    depth: int = 2\n    """Layers."""\n'
    )
    found = settings.declared_fields(file, "Mine")
    assert [(s.name, s.default, s.help) for s in found] == [("rate", 0.5, "Step size."), ("depth", 2, "Layers.")]
    assert list(settings.known("q_cliff"))[:2] == ["env", "env_options"]
