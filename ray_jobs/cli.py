"""`reprise VERB ...`: each verb is one function here, and each function a thin call. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # two threads on two busy cores can be 40 times slower than one
    os.environ.setdefault(_name, "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("PYTHONWARNINGS", "ignore")
gc.set_threshold(
    100_000, 10, 10
)  # importing torch makes a million objects that all stay: looking at them again takes 0.1 s

TOP = """Train, tune and reproduce generative models and reinforcement learning, from a laptop to a cluster.

usage: reprise VERB ...          reprise VERB --help says more"""

Handler = Callable[[list[str]], int]


def demo(argv: list[str]) -> int:
    """train DDPM on digits and PPO on CartPole, and show both against their claims, in a few minutes"""
    from ray_jobs import demo as it
    from ray_jobs.command import options

    said = _read("demo", argv, options.of(it.demo), it.demo, most=0)
    it.demo(**said.options)
    return 0


def list_(argv: list[str]) -> int:
    """every recipe with its paper, its claim and what was measured"""
    from ray_jobs.command import options
    from ray_jobs.report import catalogue

    said = _read("list", argv, options.of(catalogue.list_recipes), catalogue.list_recipes, words="[FAMILY]", least=0)
    catalogue.list_recipes(*said.words, **said.options)
    return 0


def show(argv: list[str]) -> int:
    """a recipe's settings with types, defaults and meaning"""
    from ray_jobs.report import catalogue

    said = _read("show", argv, {}, catalogue.show, words="RECIPE")
    catalogue.show(said.words[0])
    return 0


def train(argv: list[str]) -> int:
    """train a recipe"""
    from ray_jobs.command import requests
    from ray_jobs.run.progress import display
    from ray_jobs.train.launch import launch

    asked = order("train", argv)
    with display(asked.spec.recipe, quiet=asked.quiet) as report:
        run = launch(asked.spec, report=report, command=["reprise", "train", *argv])
    requests.conclude(run)
    return 0


def resume(argv: list[str]) -> int:
    """go on with a run that was stopped or killed, bit for bit"""
    from ray_jobs.command import requests
    from ray_jobs.run.folder import Run
    from ray_jobs.run.progress import display
    from ray_jobs.train import launch as train

    said = _read("resume", argv, _of_resume(), train.resume, words="RUN")
    if said.options.get("trust"):
        os.environ["REPRISE_TRUST"] = "1"  # of this process and those it starts
    with display(Run.open(said.words[0]).spec.recipe, quiet=said.options.get("quiet", False)) as report:
        run = train.resume(said.words[0], report=report, address=said.options.get("address"))
    requests.conclude(run)
    return 0


def _of_resume() -> dict[str, Any]:
    """The options of `resume`."""
    from ray_jobs.command import requests
    from ray_jobs.recipe.settings import Setting

    about = "Another Ray cluster than the one where it began; 'local' is this machine alone."
    trust = Setting("trust", bool, False, "Load whatever its environments hold: give it for authors whom you trust.")
    return {"quiet": requests.COMMON["quiet"], "address": Setting("address", str, None, about), "trust": trust}


def sample(argv: list[str]) -> int:
    """draw samples from a trained generative model"""
    from ray_jobs.command import options
    from ray_jobs.train import inspect

    said = _read("sample", argv, options.of(inspect.sample), inspect.sample, words="RUN")
    print(inspect.sample(said.words[0], **said.options))
    return 0


def evaluate(argv: list[str]) -> int:
    """measure a run's newest checkpoint again"""
    from ray_jobs.command import options
    from ray_jobs.train import inspect

    said = _read("evaluate", argv, options.of(inspect.evaluate), inspect.evaluate, words="RUN")
    inspect.evaluate(said.words[0], **said.options)
    return 0


def tune(argv: list[str]) -> int:
    """search a recipe's settings with Ray Tune"""
    from ray_jobs.recipe.spec import Spec
    from ray_jobs.tune import tune as it

    known = _own("tune")
    if argv[:1] == ["--resume"]:
        said = _read("tune", argv, {k: known[k] for k in ("resume", "concurrent", "quiet")}, it.tune, most=0)
        return it.tune(Spec(""), **said.options)
    asked = order("tune", argv)
    space = {k.removeprefix("space."): v for k, v in asked.rest.items() if k.startswith("space.")}
    return it.tune(asked.spec, space, **{k: v for k, v in asked.rest.items() if not k.startswith("space.")})


def reproduce(argv: list[str]) -> int:
    """train over several seeds, with intervals, and check the claim"""
    from ray_jobs.command import options
    from ray_jobs.reproduce import reproduce as it

    said = _read("reproduce", argv, options.of(it.reproduce), it.reproduce, words="RECIPE...", most=99)
    return it.reproduce(said.words, **said.options)


def report(argv: list[str]) -> int:
    """one HTML page of all results against their claims"""
    from ray_jobs.command import options
    from ray_jobs.report import report as it

    known = {k: s for k, s in options.of(it.report).items() if k != "runs"}
    said = _read("report", argv, known, it.report, words="[RUN...]", least=0, most=99)
    print(it.report(runs=said.words, **said.options))
    return 0


def submit(argv: list[str]) -> int:
    """send any of these commands to this machine's background, Ray, Slurm, Kubernetes ..."""
    from ray_jobs.jobs import submit as it

    return it.submit(argv, check)


def resubmit(argv: list[str]) -> int:
    """send a job again; what it trained goes on in the same run folder"""
    from ray_jobs.jobs import resubmit as it

    return it.resubmit(argv, check)


def _job_verb(name: str, word: str = "JOB") -> Handler:
    def verb(argv: list[str]) -> int:
        from ray_jobs.command import options
        from ray_jobs.jobs import verbs

        function = getattr(verbs, name)
        count = 1 if word else 0
        said = _read(name, argv, options.of(function), function, words=word, least=count, most=count)
        return function(*said.words, **said.options) or 0

    return verb


def cluster(argv: list[str]) -> int:
    """start, show and end a Ray cluster of processes on this machine, or write one down for `ray up`"""
    from ray_jobs.command import options
    from ray_jobs.jobs import ray_cluster

    name, function = ray_cluster.verb(argv)
    said = _read(f"cluster {name}", argv[1:], options.of(function), function, words="[NAME]", least=0)
    return function(*said.words, **said.options) or 0


def doctor(argv: list[str]) -> int:
    """say what of torch, Ray, GPUs, data and disk is in order, and how to mend what is not"""
    from ray_jobs import doctor as it
    from ray_jobs.command import options

    said = _read("doctor", argv, options.of(it.doctor), it.doctor, most=0)
    return it.doctor(**said.options) or 0


VERBS: dict[str, tuple[Handler, str]] = {
    "demo": (demo, demo.__doc__ or ""),
    "list": (list_, list_.__doc__ or ""),
    "show": (show, show.__doc__ or ""),
    "train": (train, train.__doc__ or ""),
    "resume": (resume, resume.__doc__ or ""),
    "sample": (sample, sample.__doc__ or ""),
    "evaluate": (evaluate, evaluate.__doc__ or ""),
    "tune": (tune, tune.__doc__ or ""),
    "reproduce": (reproduce, reproduce.__doc__ or ""),
    "report": (report, report.__doc__ or ""),
    "submit": (submit, submit.__doc__ or ""),
    "status": (_job_verb("status"), "how a submitted job is doing"),
    "logs": (_job_verb("logs"), "what a job printed; -f follows it to its end"),
    "cancel": (_job_verb("cancel"), "end a job; what it trained is saved"),
    "resubmit": (resubmit, resubmit.__doc__ or ""),
    "jobs": (_job_verb("jobs", ""), "every job that was submitted from here"),
    "cluster": (cluster, cluster.__doc__ or ""),
    "doctor": (doctor, doctor.__doc__ or ""),
}


def _read(
    verb: str, argv: list[str], known: dict[str, Any], about: Any, *, words: str = "", least: int | None = None,
    most: int = 1, rest: bool = False,
) -> Any:  # fmt: skip
    """The verb's words and options; its help where that is asked for."""
    from ray_jobs.command import options
    from ray_jobs.errors import UsageError

    form = f"reprise {verb} {words}".rstrip()
    try:
        said = options.parse(f"reprise {verb}", argv, known, rest=rest)
    except options.HelpWanted:
        options.usage(form + " [options]" * bool(known), (about.__doc__ or "").partition("\n\n")[0], {"options": known})
        raise SystemExit(0) from None
    least = (1 if words else 0) if least is None else least
    if not least <= len(said.words) <= most:
        raise UsageError(f"It is used as: {form}{' [options]' * bool(known)}.")
    return said


def _own(verb: str) -> dict[str, Any]:
    """The options that `verb` has beside those of every verb that trains."""
    if verb != "tune":
        return {}
    from ray_jobs.command import options
    from ray_jobs.tune import tune as it

    return {k: s for k, s in options.of(it.tune).items() if k != "train"}


def order(verb: str, argv: list[str]) -> Any:
    """What `train` and `tune` share: a recipe, its settings, a seed and a place."""
    from ray_jobs.command import options, requests
    from ray_jobs.errors import UsageError
    from ray_jobs.recipe.loading import names

    own = _own(verb)
    if not argv or argv[0] in ("-h", "--help"):
        if not argv:
            raise UsageError(f"It is used as: reprise {verb} RECIPE [options]. Recipes: {', '.join(names())}.")
        general = {"options": requests.COMMON | own}
        options.usage(
            f"reprise {verb} RECIPE [options]", VERBS[verb][1] + "; 'reprise show RECIPE' has its settings", general
        )
        raise SystemExit(0)
    try:
        return requests.read(verb, argv, own, "space." if verb == "tune" else "")
    except options.HelpWanted:
        from ray_jobs.recipe.settings import known

        groups = {f"settings of {argv[0]}": known(argv[0]), "options": requests.COMMON | own}
        options.usage(f"reprise {verb} {argv[0]} [options]", VERBS[verb][1], groups)
        raise SystemExit(0) from None


def check(argv: list[str]) -> None:
    """Refuse a command that cannot be, before it is sent anywhere.

    Raises:
        UsageError: the verb or one of its recipes, settings or options does not exist.
    """
    from ray_jobs.errors import UsageError, unknown
    from ray_jobs.recipe.loading import recipe

    verb, *others = argv
    if verb not in VERBS:
        raise UsageError(unknown("verb", verb, list(VERBS)))
    if verb in ("train", "tune") and "--resume" not in others:
        from ray_jobs.recipe.settings import check as check_settings

        asked = order(verb, others)
        check_settings(asked.spec.recipe, asked.spec.settings, asked.spec.where)
    if verb == "show":
        recipe(others[0] if others else "")
    if verb == "reproduce":
        from ray_jobs.command import options
        from ray_jobs.reproduce import reproduce as it

        for recipe in _read(verb, others, options.of(it.reproduce), it.reproduce, words="RECIPE...", most=99).words:
            it.claim_of(recipe)
    if verb in FORMS:
        _check_form(verb, others)


FORMS = {
    "demo": ("demo.demo", "", 0),
    "list": ("report.catalogue.list_recipes", "[FAMILY]", 1),
    "resume": ("train.launch.resume", "RUN", 1),
    "sample": ("train.inspect.sample", "RUN", 1),
    "evaluate": ("train.inspect.evaluate", "RUN", 1),
    "report": ("report.report.report", "[RUN...]", 99),
    "doctor": ("doctor.doctor", "", 0),
}
"""Verbs whose command line is their function's: where it is, which words it takes, and how many at most."""


def _check_form(verb: str, argv: list[str]) -> None:
    """Refuse words and options that the verb does not have, without running it."""
    from importlib import import_module

    from ray_jobs.command import options

    where, words, most = FORMS[verb]
    file, _, name = where.rpartition(".")
    function = getattr(import_module(f"ray_jobs.{file}"), name)
    known = _of_resume() if verb == "resume" else options.of(function)
    least = 1 if words == "RUN" else 0
    _read(verb, argv, {k: s for k, s in known.items() if k != "runs"}, function, words=words, least=least, most=most)


def _help() -> None:
    width = max(map(len, VERBS)) + 3
    room = max(40, shutil.get_terminal_size().columns) - width - 2
    print(TOP + "\n")
    for verb, (_, summary) in VERBS.items():
        print(f"  {verb:{width}}{summary if len(summary) <= room else summary[: room - 1] + '…'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Returns:
        0; 1 where work failed or a claim does not hold; 2 where the command cannot be; 128 + n when signal n stopped it.
    """
    verb, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if verb in ("-h", "--help", "help"):
        _help()
        return 0
    if verb == "--version":
        from importlib.metadata import version

        print(version("reprise"))
        return 0
    from ray_jobs.errors import UsageError, unknown

    try:
        if verb not in VERBS:
            raise UsageError(unknown("verb", verb, list(VERBS)))
        return VERBS[verb][0](rest)
    except UsageError as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # 'reprise list | head'
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from ray_jobs.train.launch import Failed, Stopped

        if isinstance(error, Stopped):
            print(error)
            return 128 + error.signal
        if isinstance(error, Failed):
            return _fail(error, 1)
        raise


def _fail(error: Exception, code: int) -> int:
    print(f"reprise: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
