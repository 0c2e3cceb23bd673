"""What a recipe is made of: `from ray_jobs.recipe import Claim, Fit, Headline, Play`."""

from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Claim, Fit, Headline, Play, Variant

__all__ = ["Claim", "Fit", "Headline", "Play", "UsageError", "Variant"]
