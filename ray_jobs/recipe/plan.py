"""Plans: what a recipe trains, a model (`Fit`), an agent (`Play`) or a process (`Study`), and with which options.

The kinds of plan, `Fit`, `Play` and `Study`, share one protocol, `Plan`; no code outside asks which kind a recipe is. A
kind's work is in its engine, a module that is imported when it is needed: settings are known, and wrong ones are refused, before
torch is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from ray_jobs.errors import UsageError
from ray_jobs.recipe.ranges import Count, Decay, Finite, NotNegative, Positive, Whole
from ray_jobs.recipe.spec import Where

if TYPE_CHECKING:
    from datamodules.base import Data
    from lightning_modules.model import Generative

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]

Matmul = Literal["float32", "bfloat16"]

Measured = Literal["test", "validation"]


class Layout(NamedTuple):
    """The processes of one run."""

    group: int
    """Processes that train together and each take `--threads` cores: data-parallel workers, or learners."""
    helpers: int
    """Further Ray actors that take one core each: environment runners, or the workers of a study."""
    gpu: bool
    """Whether each process of the group takes a GPU with --accelerator auto, where there is one."""
    local: bool
    """Whether the whole run needs no Ray where one machine has room for its group."""

    def cpus(self, threads: int) -> int:
        """Cores that the run keeps busy."""
        return self.group * threads + self.helpers


class Plan(Protocol):
    """What a recipe trains. Its kind says how: a class with these attributes, and an engine.

    The engine is a module with the functions

        train(run, spec, report, should_stop) -> bool     whether training reached its end
        evaluate(run, ema) -> (metrics, step)              of the newest checkpoint, or of an average of this width
        sample(run, *, n, seed, name, how) -> Path         samples of the newest checkpoint, drawn as `drawing.Drawing` says
        loaded(run) -> Agent | Trained                     of the newest checkpoint: an agent that acts, or a model
        weights(plan, seed) -> (weights, groups)           untrained weights, and the optimisers' parameter groups
        fixed(plan) -> mapping                             options that may not change while a run continues
        splits(run, metrics) -> mapping                    what each metric of an evaluation is measured on
        check_together(plan)                               raises UsageError where `--together` cannot train it
    """

    engine: ClassVar[str]
    """Import path of the engine."""
    choosing: ClassVar[str]
    """What a search measures its trials on (`Spec.measured_on`): 'validation', or 'test' where a kind has nothing to keep apart."""
    measured: ClassVar[str]
    """What the final evaluation measures on, in words; a result's `splits` are more exact."""
    progress: ClassVar[str]
    """The logged metric by which trials are compared before their end; '' where the recipe says it (`tune_metric`), or there is none."""
    steps: int
    """Steps of one whole training, in the kind's own unit."""
    save_every: int
    """Steps between checkpoints."""
    log_every: int
    """Steps between logged metrics."""

    @classmethod
    def layout(cls, where: Where) -> Layout:
        """The processes of a run of this kind."""
        ...

    @classmethod
    def check(cls, name: str, settings: Mapping[str, Any], where: Where) -> None:
        """Refuse a wrong combination of settings and processes.

        Args:
            name: the recipe, for the sentence.
            settings: all of the recipe's settings, defaults filled in.

        Raises:
            UsageError: one sentence says what was wrong and what is allowed.
        """
        ...


@dataclass(frozen=True)
class Fit:
    """Training of a generative model by Lightning. `model` is built untrained, `data` not yet set up."""

    model: Generative
    data: Data
    evaluate: Callable[[Generative, Data], dict[str, float]] | None = None
    """Metrics of the trained (averaged, where EMA is on) model, measured at the end and by `reprise evaluate`."""
    steps: Count = 1000
    """Optimiser steps; of an adversarial model, its generator's."""
    batch: Count = 128
    """Global batch, over all workers; of an adversarial model, of each network's step."""
    lr: Positive | None = None
    """Learning rate of all optimisers; by default the model's own."""
    warmup: Whole | None = None
    """Steps over which the learning rate rises from 0; by default the model's own."""
    ema: Decay = 0.0
    """Decay of the exponential moving average of the weights per step; 0 switches it off."""
    ema_ramp: NotNegative = 0.0
    """At first the half-life of the average is this part of the n steps done (0.05 in EDM); 0: at first the decay is (1 + n) / (10 + n)."""
    ema_power: str = ""
    """Relative widths of power-function averages that are kept too, such as 0.05,0.10; afterwards --ema of sample and evaluate
    makes any width of them."""
    ema_snapshots: Count = 20
    """Snapshots of the power-function averages during the training, evenly spaced; they stay in the run folder."""
    grad_clip: NotNegative = 0.0
    """Largest norm of the gradient; 0 does not clip."""
    accumulate: Count = 1
    """Micro-batches that make up one global batch on each worker."""
    precision: Precision = "32-true"
    """Lightning's precision of weights and computation."""
    compile: bool = False
    """Run the model's forward through torch.compile."""
    num_workers: Whole = 0
    """Processes on each worker that load data ahead; 0 loads in the training process."""
    save_every: Count = 500
    """Steps between checkpoints."""
    log_every: Count = 20
    """Steps between logged metrics."""
    features: str = ""
    """Network of features that samples of images are compared by: the file of Inception's weights, pt_inception-2015-12-05-6726825d.pth,
    for FID, KID, precision, recall and IS, or 'efficientnet_lite0'; '' measures none of them."""
    reference: str = "train"
    """What samples are compared with by --features: 'train', 'test', or a file of 'reprise statistics'."""
    eval_samples: Count = 50_000
    """Samples that are compared by --features."""
    eval_every: Whole = 0
    """Steps between evaluations during training; the best checkpoint is kept. 0 evaluates at the end alone."""

    engine: ClassVar[str] = "ray_jobs.train.models"
    measured: ClassVar[str] = "held-out examples; of data whose truth is known, fresh draws"
    choosing: ClassVar[str] = "validation"
    progress: ClassVar[str] = "loss"

    @classmethod
    def layout(cls, where: Where) -> Layout:
        """Data-parallel workers; on one machine they need no Ray."""
        return Layout(where.workers, 0, gpu=True, local=True)

    @classmethod
    def check(cls, name: str, settings: Mapping[str, Any], where: Where) -> None:
        """Refuse agents' processes, and a global batch that does not divide over the workers.

        Raises:
            UsageError: one sentence says what was wrong and what is allowed.
        """
        if where.runners or where.learners > 1:
            raise UsageError(
                f"{name} trains a generative model: --runners and --learners are for agents, use --workers."
            )
        if where.min_workers > where.workers:
            raise UsageError(
                f"--min_workers {where.min_workers} is more than --workers {where.workers}: it is the fewest to start with."
            )
        parts = where.workers * settings["accumulate"]
        if settings["batch"] % parts:
            raise UsageError(
                f"--batch {settings['batch']} of {name} is the global batch and does not divide into "
                f"--workers x --accumulate = {parts} parts."
            )
        widths(settings.get("ema_power", ""))
        if settings["precision"] == "16-mixed" and where.accelerator == "cpu":
            raise UsageError("--precision 16-mixed needs a GPU: on a CPU take bf16-mixed.")
        if settings["reference"] != "train" and not settings["features"]:
            raise UsageError(f"--reference {settings['reference']} of {name} is for --features: give that too.")


WIDEST = 12**-0.5
"""What all widths of power-function averages are below: that of the mean of all weights."""


def widths(text: str) -> tuple[float, ...]:
    """The relative widths of power-function averages in a list such as '0.05,0.10'; '' holds none.

    Raises:
        UsageError: an entry is no number between 0 and `WIDEST`, or is there twice.
    """
    try:
        found = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        found = (0.0,)
    if not all(0 < width < WIDEST for width in found) or len(set(found)) < len(found):
        raise UsageError(
            f"--ema_power takes different widths above 0 and below {WIDEST:.4f}, such as 0.05,0.10, not '{text}'."
        )
    return found


@dataclass(frozen=True, init=False)
class Play:
    """Training of a reinforcement-learning agent on environments.

    `Play("ppo:PPO", env="CartPole-v1", steps=300_000, clip=0.1)` is data: the algorithm's class and those of its fields that
    differ from its defaults. `Play(PPO(clip=0.1), "CartPole-v1", 300_000)` holds the algorithm itself.
    """

    algorithm: Any
    """The algorithm, or where its class is: 'module:Class' in `rl/algorithms`, or 'package.module:Class'."""
    env: str
    """Gymnasium's id (also 'package.module:id', of a module that registers it), or 'package.module:function' that makes one
    environment, Gymnasium's or PettingZoo's parallel."""
    steps: Count
    """Environment steps, over all runners together."""
    envs: Count = 8
    """Parallel environments, over all runners together."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment; Atari's are those of `ray_jobs.envs.atari.Atari`."""
    normalize_obs: bool = False
    """Shift and scale observations by their running mean and deviation."""
    normalize_reward: bool = False
    """Scale rewards by the running deviation of the discounted return."""
    matmul: Matmul = "float32"
    """Number format of the factors of matrix products in updates, where the CPU has units for it; sums and weights stay float32.
    bfloat16 is faster and may learn worse: TD3 scored -685 on Pendulum with it, at one seed."""
    stop_return: Finite | None = None
    """Stop early once the mean return of the last 100 training episodes reaches this."""
    eval_episodes: Count = 100
    """Episodes of the final evaluation, greedy, on environments apart from the training ones."""
    eval_steps: Count = 27_000
    """Steps after which an episode of the evaluation is cut; Atari's own limit is 27,000."""
    save_every: Count = 50_000
    """Environment steps between checkpoints."""
    log_every: Count = 2_000
    """Environment steps between logged metrics."""
    measured_on: Measured = "test"
    """Whether the evaluation's environments are those of a final evaluation ('test') or of a search ('validation')."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Fields of the algorithm that differ from its defaults, where `algorithm` is a path."""

    engine: ClassVar[str] = "ray_jobs.train.agents"
    measured: ClassVar[str] = "fresh environments"
    choosing: ClassVar[str] = "validation"
    progress: ClassVar[str] = "episode_return"
    family: ClassVar[str] = "ray_jobs.rl.algorithms"

    def __init__(self, algorithm: Any, env: str = "", steps: int = 0, envs: int = 8, **given: Any) -> None:
        _fill(self, {"algorithm": algorithm, "env": env, "steps": steps, "envs": envs}, given)

    @classmethod
    def layout(cls, where: Where) -> Layout:
        """Learners, and environment runners; small networks are faster on the CPU."""
        return Layout(where.learners, where.runners, gpu=False, local=False)

    @classmethod
    def check(cls, name: str, settings: Mapping[str, Any], where: Where) -> None:
        """Refuse models' processes, and environments that do not divide over the runners.

        Raises:
            UsageError: one sentence says what was wrong and what is allowed.
        """
        if settings["env"] == "":
            raise UsageError(f"{name} needs an environment, such as --env CartPole-v1 or --env mylab.envs:make.")
        if where.workers > 1 or where.min_workers:
            raise UsageError(
                f"{name} trains an agent: --workers and --min_workers are for generative models, "
                "use --runners and --learners."
            )
        if where.runners % where.learners:
            raise UsageError(
                f"--runners {where.runners} cannot be shared by --learners {where.learners}: "
                f"take a multiple of {where.learners}, or 0."
            )
        shares = max(where.runners, where.learners)
        if settings["envs"] % shares:
            raise UsageError(
                f"--envs {settings['envs']} of {name} do not divide over {shares} runners: take a multiple of {shares}."
            )


@dataclass(frozen=True, init=False)
class Study:
    """A process that is advanced unit by unit: dynamic programming, tabular methods, bandits, evolution strategies, self-play.

    `Study("planning:ValueIteration", steps=100, gamma=0.99)` is data, as `Play` is. See `recipe.process.Process`.
    """

    process: Any
    """The process, or where its class is: 'module:Class' in `ray_jobs/tabular`, or 'package.module:Class'."""
    steps: Count
    """Units of the process: sweeps, episodes, pulls, generations, rounds."""
    save_every: Count = 1_000
    """Units between checkpoints."""
    log_every: Count = 10
    """Units between logged metrics."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Fields of the process that differ from its defaults, where `process` is a path."""

    engine: ClassVar[str] = "ray_jobs.train.studies"
    measured: ClassVar[str] = "the process itself"
    choosing: ClassVar[str] = "test"
    progress: ClassVar[str] = ""
    family: ClassVar[str] = "ray_jobs.tabular"

    def __init__(self, process: Any, steps: int = 0, **given: Any) -> None:
        _fill(self, {"process": process, "steps": steps}, given)

    @classmethod
    def layout(cls, where: Where) -> Layout:
        """One process that owns the state, and workers where more than one is asked for."""
        return Layout(1, where.workers if where.workers > 1 else 0, gpu=False, local=False)

    @classmethod
    def check(cls, name: str, settings: Mapping[str, Any], where: Where) -> None:
        """Refuse agents' processes; any number of workers is allowed, because shards of the work do not depend on it.

        Raises:
            UsageError: one sentence says what was wrong and what is allowed.
        """
        if where.runners or where.learners > 1 or where.min_workers:
            raise UsageError(
                f"{name} is a study: --runners and --learners are for agents, --min_workers is for generative models, "
                "use --workers."
            )


KINDS: tuple[type[Fit] | type[Play] | type[Study], ...] = (Fit, Play, Study)


def target(plan: Any) -> Any:
    """The algorithm or process of a plan that is data, or the path of its class."""
    return getattr(plan, fields(plan)[0].name)


def _fill(plan: Any, named: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Set a plan's fields from its arguments; the arguments that are no fields are its algorithm's settings."""
    values: dict[str, Any] = {}
    for field_ in fields(plan):
        values[field_.name] = field_.default if field_.default_factory is MISSING else field_.default_factory()
    known = {k: v for k, v in given.items() if k in values}
    own = {k: v for k, v in given.items() if k not in values}
    values |= dict(named) | known
    values["settings"] = {**values["settings"], **own}
    for name, value in values.items():
        object.__setattr__(plan, name, value)
