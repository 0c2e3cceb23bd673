"""Who may import whom: a new arrow must be drawn in ARCHITECTURE.md first, and then here."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("cluster", "datamodules", "lightning_modules", "ray_jobs")
MAY = {
    "cluster": set(),
    "datamodules": set(),
    "lightning_modules": set(),
    "ray_jobs": {"cluster", "lightning_modules", "datamodules", "ray_jobs"},
    "ray_jobs.envs": {"ray_jobs.recipe.plan"},
    "ray_jobs.rl": {"ray_jobs.recipe.plan", "ray_jobs.envs", "ray_jobs.distributed.ray_group", "ray_jobs.run.memory"},
    "ray_jobs.recipes": {"lightning_modules", "datamodules", "ray_jobs"},
}
PURE = {"returns", "policy_losses", "value_losses", "curvature", "stein"}
ALGORITHMS_MAY = {"algorithm", "adam", "agents", "critics", "draws", "kfac", "nets", "policies"} | PURE
SEEDS = {"ray_jobs.rl.maths.draws", "ray_jobs.rl.fast.vmapped.apart", "ray_jobs.rl.fast.vmapped.stacked"}
"""With which a function serves several seeds at once; they import torch alone, too."""
RAY = {"on_ray", "on_tune", "train", "seeds_on_ray", "cli", "doctor", "rl/pools", "rl/learners"}


def files():
    return sorted(f for p in PACKAGES for f in (ROOT / p).rglob("*.py"))


def imports(file: pathlib.Path, *, top_only: bool = False):
    """Every module that a file imports, by its full name; `if TYPE_CHECKING` blocks count, for they are arrows too."""
    tree = ast.parse(file.read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = (
                [*file.relative_to(ROOT).parent.parts][: None if node.level < 2 else 1 - node.level]
                if node.level
                else []
            )
            base = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{base}.{a.name}" for a in node.names)


def module(file: pathlib.Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def within(name: str, zone: str) -> bool:
    return name == zone or name.startswith(zone + ".")


@pytest.mark.parametrize("file", files(), ids=lambda f: module(f))
def test_arrows(file):
    zone = max((z for z in MAY if within(module(file), z)), key=len)
    for name in imports(file):
        if name.split(".")[0] in PACKAGES and not within(name, zone):
            assert any(within(name, z) for z in MAY[zone]), f"{module(file)} must not import {name}"
        if name.split(".")[0] == "ray":
            path = file.relative_to(ROOT / "ray_jobs").with_suffix("").as_posix() if zone.startswith("ray_jobs") else ""
            assert path in RAY or module(file) == "cluster.ray_clusters.jobs_api", f"{module(file)} must not import ray"


@pytest.mark.parametrize("file", sorted((ROOT / "ray_jobs/rl/algorithms").glob("*.py")), ids=lambda f: f.stem)
def test_algorithms_import_their_parts_and_never_each_other(file):
    ours = [n for n in imports(file) if within(n, "ray_jobs")]
    assert all(n.split(".")[2] in ALGORITHMS_MAY for n in ours if within(n, "ray_jobs.rl")), ours


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_functional_core_imports_torch_alone(name):
    file = ROOT / f"ray_jobs/rl/{name}.py"
    if file.exists():
        foreign = {n if within(n, "ray_jobs") else n.split(".")[0] for n in imports(file)} - {
            "__future__",
            "torch",
            "numpy",
            "math",
            "collections",
            "typing",
            *SEEDS,
        }
        assert not foreign, foreign


def test_the_runtime_never_names_an_algorithm():
    names = {f.stem for f in (ROOT / "ray_jobs/rl/algorithms").glob("*.py")} - {"__init__"}
    for name in ("runtime", "training", "runner", "pools", "learner", "learners"):
        file = ROOT / f"ray_jobs/rl/{name}.py"
        if file.exists():
            found = {n.split(".")[-1] for n in imports(file)} | {
                n.id for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Name)
            }
            assert not {f.lower() for f in found} & names


def test_recipes_import_nothing_heavy_at_their_top():
    for file in (ROOT / "ray_jobs/recipes").glob("*.py"):
        names = {n.split(".")[0] for n in imports(file, top_only=True)}
        assert names <= {"__future__", "functools", "typing", "math", "collections", "ray_jobs"}, file


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_and_data_work_without_ray():
    code = "import sys; sys.modules['ray'] = None\n"
    modules = [module(f) for p in ("lightning_modules", "datamodules") for f in (ROOT / p).rglob("*.py")]
    assert run(code + "\n".join(f"import {m}" for m in modules) + "\nprint('fine')") == "fine\n"


@pytest.mark.parametrize(
    "command",
    ["--help", "list", "list flows", "list --claims", "show ppo_cartpole", "train --help", "train ppo_cartpole --help", "submit --help",
     "tune ddpm_digits --help", "completion bash", "train ppo_cartpol"],
)  # fmt: skip
def test_the_command_line_answers_without_torch_ray_or_lightning(command):
    code = f"import sys\nfrom ray_jobs.cli import main\ntry: main({command.split()!r})\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'ray', 'lightning', 'gymnasium'} & set(sys.modules)))"
    assert run(code).endswith("[]\n")


@pytest.mark.parametrize("file", files(), ids=lambda f: module(f))
def test_files_stay_small(file):
    assert len(file.read_text().splitlines()) <= 400
