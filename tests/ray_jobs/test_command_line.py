"""The command line: each verb is described by its function, and everything wrong with a command is one sentence."""

import inspect

import pytest

from ray_jobs.cli import main
from ray_jobs.command import options
from ray_jobs.command.requests import SPEC, check, parse, reads_itself, takes_spec
from ray_jobs.command.verbs import VERBS, function_of, summary
from ray_jobs.errors import UsageError
from ray_jobs.recipe.settings import known

RECIPE = "ddpm_digits"
READ = [verb for verb in VERBS if not reads_itself(function_of(verb))]
"""Verbs whose command line is read from their functions' signatures alone."""


def words_for(verb: str) -> list[str]:
    """As many words as the verb needs."""
    words = options.words_of(function_of(verb))
    return [(options.choices_of(w.type) or [RECIPE])[0] for w in words if w.required or takes_spec(function_of(verb))]


def options_for(verb: str) -> dict[str, options.Setting]:
    """All options of the verb, for this recipe."""
    function = function_of(verb)
    return (known(RECIPE) | SPEC if takes_spec(function) else {}) | options.options_of(function)


def refused(*argv: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a command is refused."""
    assert main([*argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("reprise: ") and shown.err.count("\n") == 1, shown
    return shown.err.removeprefix("reprise: ").strip()


# ---- described once


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_described_by_its_function(verb):
    function = function_of(verb)
    assert summary(verb) == (inspect.getdoc(function) or "").partition("\n")[0]
    assert 10 < len(summary(verb)) <= 61 and summary(verb).endswith(".")  # a line of a terminal of 80 columns
    assert all(s.help for s in options.options_of(function).values())


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_how_a_verb_is_used(verb, capsys):
    with pytest.raises(SystemExit) as done:
        parse([*verb.split(), "--help"]).run()
    shown = capsys.readouterr().out
    assert done.value.code == 0
    assert shown.startswith(f"usage: reprise {verb}") and summary(verb) in shown
    assert all(f"--{name} " in shown for name in options.options_of(function_of(verb)))


@pytest.mark.parametrize("verb", ["train", "tune"])
def test_help_on_a_recipe_shows_its_settings(verb, capsys):
    with pytest.raises(SystemExit):
        parse([verb, RECIPE, "--help"])
    shown = capsys.readouterr().out
    assert f"settings of {RECIPE}" in shown and all(f"--{name} " in shown for name in options_for(verb))


# ---- one sentence


@pytest.mark.parametrize("verb", READ)
def test_an_unknown_option_is_one_sentence(verb, capsys):
    what = RECIPE if takes_spec(function_of(verb)) else f"reprise {verb}"
    message = refused(*verb.split(), *words_for(verb), "--nonsens", "1", capsys=capsys)
    allowed = ", ".join(options_for(verb))
    if allowed:
        assert message.startswith(f"{what} has no setting 'nonsens'.") and f"Allowed: {allowed}" in message
    else:
        assert message == f"{what} takes no options: leave out --nonsens."


@pytest.mark.parametrize("verb", [v for v in READ if any(s.type is not bool for s in options_for(v).values())])
def test_a_missing_value_is_one_sentence(verb, capsys):
    name = next(name for name, s in options_for(verb).items() if s.type is not bool)
    assert refused(*verb.split(), *words_for(verb), f"--{name}", capsys=capsys) == f"--{name} needs a value."
    message = refused(*verb.split(), *words_for(verb), f"--{name}", "--other", "1", capsys=capsys)
    assert message == f"--{name} needs a value."


NUMBERS = {verb: [s for s in options_for(verb).values() if s.type in (int, float, bool, int | None)] for verb in READ}


@pytest.mark.parametrize("verb", [verb for verb in READ if NUMBERS[verb]])
def test_a_wrong_type_is_one_sentence(verb, capsys):
    what = RECIPE if takes_spec(function_of(verb)) else f"reprise {verb}"
    for s in NUMBERS[verb]:
        message = refused(*verb.split(), *words_for(verb), f"--{s.name}=much", capsys=capsys)
        assert message == f"--{s.name} of {what} takes {s.typename}, not 'much'."


@pytest.mark.parametrize("verb", [v for v in READ if words_for(v)])
def test_a_missing_word_is_one_sentence(verb, capsys):
    assert refused(*verb.split(), capsys=capsys).startswith(f"It is used as: reprise {verb} ")


@pytest.mark.parametrize("verb", [v for v in READ if not any(w.several for w in options.words_of(function_of(v)))])
def test_a_word_too_many_is_one_sentence(verb, capsys):
    words = [*words_for(verb), *(["x"] * (len(options.words_of(function_of(verb))) - len(words_for(verb))))]
    message = refused(*verb.split(), *words, "extra", capsys=capsys)
    assert message.startswith(f"'extra' is one word too many. It is used as: reprise {verb}")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("submit --nonsens 1 list", "submit --on local has no setting 'nonsens'."),
        ("submit --name", "--name needs a value."),
        ("submit --nodes two list", "--nodes of submit --on local takes int, not 'two'."),
        ("submit", "There is nothing to submit: "),
        ("submit lits", "There is no verb 'lits'. Did you mean 'list'?"),
        ("resubmit", "It is used as: reprise resubmit JOB [options]."),
        ("trian", "There is no verb 'trian'. Did you mean 'train'? Allowed: demo, list, show, train"),
        ("cluster upp", "There is no verb of cluster 'upp'. Did you mean 'up'? Allowed: up, status, down, env, yaml."),
        ("completion tcsh", "There is no shell 'tcsh'. Allowed: bash, zsh, fish."),
        (f"train --lr 1 {RECIPE}", "Name the recipe first: reprise train RECIPE --lr ..."),
        (f"tune --lr 1 {RECIPE}", "Name the recipe first: reprise tune RECIPE --lr ..."),
        ("tune --trials 3", "Name the recipe first: reprise tune RECIPE ..., or --resume FOLDER"),
        (f"train {RECIPE} --lrr 1", "ddpm_digits has no setting 'lrr'. Did you mean 'lr'? Allowed: "),
        (f"train {RECIPE} --lr.x 1", "ddpm_digits has no setting 'lr.x'."),
        (f"train {RECIPE} --space.lr 1", "ddpm_digits has no setting 'space.lr'."),
        (f"train {RECIPE} --seed -1", "--seed must be at least 0, not -1."),
        (f"train {RECIPE} --config none.yaml", "The settings file none.yaml cannot be read: "),
        ("list flow", "There is no family 'flow'. Did you mean 'flows'?"),
        ("show", "It is used as: reprise show RECIPE [options]."),
    ],
)
def test_what_is_wrong_is_one_sentence(line, sentence, capsys):
    assert refused(*line.split(), capsys=capsys).startswith(sentence)


@pytest.mark.parametrize("verb", ["train", "tune", "show", "reproduce"])
def test_an_unknown_recipe_names_the_nearest_three_and_where_to_look(verb, capsys):
    message = refused(verb, "ppo_cartpol", capsys=capsys)
    assert message.startswith("There is no recipe 'ppo_cartpol'. Did you mean 'ppo_cartpole', ")
    assert message.count("'") == 2 + 3 * 2 + 2 * 2 and "'reprise list FAMILY'" in message
    assert len(message) < 250


@pytest.mark.parametrize("verb", ["train", "tune"])
def test_without_a_recipe_the_list_is_named_and_not_printed(verb, capsys):
    message = refused(verb, capsys=capsys)
    assert message == f"It is used as: reprise {verb} RECIPE [options]. 'reprise list' shows the recipes."


# ---- read


@pytest.mark.parametrize(
    ("line", "words", "given"),
    [
        ("sample r", ["r"], {}),
        ("sample --n 3 r --name=x", ["r"], {"n": 3, "name": "x"}),
        ("evaluate --json r", ["r"], {"json": True}),
        ("evaluate r --json false", ["r"], {"json": False}),
        ("evaluate --json=TRUE r", ["r"], {"json": True}),
        ("logs job -f", ["job"], {"follow": True}),
        ("reproduce sac --seeds 2 td3", [["sac", "td3"]], {"seeds": 2}),
        ('reproduce sac --settings {"lr":1}', [["sac"]], {"settings": {"lr": 1}}),
        ("reproduce ppo --env Acrobot-v1 --clip 0.3", [["ppo"]], {"settings": {"env": "Acrobot-v1", "clip": 0.3}}),
        ("reproduce sac --settings.lr 1e-3", [["sac"]], {"settings": {"lr": 1e-3}}),
        ("report", [[]], {}),
        ("report a b --out p.html", [["a", "b"]], {"out": "p.html"}),
        ("cluster up", [], {}),
        ("cluster up lab --cpus 0.5 --object-store 1GiB", ["lab"], {"cpus": 0.5, "object_store": "1GiB"}),
        ("jobs --on=local", [], {"on": "local"}),
        ("tune --resume runs/x --trials 9", None, {"resume": "runs/x", "trials": 9}),
    ],
)
def test_words_and_options_may_be_mixed(line, words, given):
    request = parse(line.split())
    assert request.options == given
    assert words is None or request.words == words


def test_a_run_is_read_from_the_line_its_file_and_its_recipe(tmp_path):
    (tmp_path / "mine.yaml").write_text("lr: 0.5\nsteps: 7\n")
    given = ["--config", str(tmp_path / "mine.yaml"), "--lr", "-1e-3", "--workers", "2", "--out", "x", "--quiet"]
    request = parse(["train", RECIPE, *given])
    assert request.spec.recipe == RECIPE and request.spec.settings == {"lr": -1e-3, "steps": 7}
    assert request.spec.where.workers == 2 and request.spec.out == "x" and request.options == {"quiet": True}
    assert request.words[1] == [RECIPE, *given]


def test_a_space_is_kept_as_text():
    request = parse(["tune", RECIPE, "--space.lr", "loguniform(1e-4, 1e-2)", "--space.batch=32", "--width", "8"])
    assert request.options == {"space": {"lr": "loguniform(1e-4, 1e-2)", "batch": "32"}}
    assert request.spec.settings == {"width": 8}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("show ppo_cartpol", "no recipe 'ppo_cartpol'"),
        ("reproduce ppo_cartpole a2c_pon", "There is no recipe 'a2c_pon'. Did you mean 'a2c_pong'"),
        (f"train {RECIPE} --batch 63 --workers 2", "does not divide"),
        (f"tune {RECIPE} --steps 0", "--steps of ddpm_digits must be at least 1"),
    ],
)
def test_a_request_is_checked_without_being_carried_out(line, sentence):
    with pytest.raises(UsageError, match=sentence):
        check(parse(line.split()))


@pytest.mark.parametrize("line", ["list", "show ppo_cartpole", "reproduce ppo_cartpole", "tune --resume x", "demo"])
def test_a_request_that_can_be_passes_the_check(line):
    request = parse(line.split())
    assert check(request) is None and request.verb == line.split()[0]
