"""What a module that declares recipes imports: `from ray_jobs.recipe import Claim, Headline, Play, Recipe`."""

from ray_jobs.errors import UsageError
from ray_jobs.recipe.declare import Claim, Headline, Recipe, Variant, fit
from ray_jobs.recipe.plan import Fit, Play, Study
from ray_jobs.recipe.settings import Location, RequiredLocation

__all__ = [
    "Claim",
    "Fit",
    "Headline",
    "Location",
    "Play",
    "Recipe",
    "RequiredLocation",
    "Study",
    "UsageError",
    "Variant",
    "fit",
]
