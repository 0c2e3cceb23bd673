"""Reprise from Python: what the command line does, as a few functions.

    import reprise

    run = reprise.train("ppo", env="CartPole-v1", steps=100_000, out="runs/cart")
    agent = reprise.load(run)
    action = agent.act(observation)

    run = reprise.train("maf_density2d", out="runs/maf")
    x = reprise.load(run).sample(100)

Errors that are yours to mend are `UsageError`, one sentence each; a training that cannot continue raises `Failed`.
"""

from ray_jobs.errors import Failed, UsageError
from ray_jobs.run.folder import Run
from reprise.api import Model, evaluate, load, recipes, resume, sample, train

__all__ = ["Failed", "Model", "Run", "UsageError", "evaluate", "load", "recipes", "resume", "sample", "train"]
