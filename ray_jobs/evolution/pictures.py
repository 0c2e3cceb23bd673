"""Pictures of evolution strategies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ray_jobs.evolution.noise import Array
from ray_jobs.results import plots


def returns(centre: Array, members: Array, path: Path) -> None:
    """Draw the return of the weights [G] by generation, over a band that holds 90% of the returns of their perturbations [G, pairs, 2]."""
    with plots.figure(6.4, 3.6) as (fig, axes):
        generations = np.arange(len(centre))
        if len(centre):
            low, high = np.quantile(members.reshape(len(centre), -1), [0.05, 0.95], axis=1)
            axes.fill_between(generations, low, high, alpha=0.25, linewidth=0, label="90% of the perturbed weights")
            axes.plot(generations, centre, label="the weights")
            axes.legend(frameon=False)
        axes.set_xlabel("generation")
        axes.set_ylabel("return of an episode")
        plots.save(fig, path)
