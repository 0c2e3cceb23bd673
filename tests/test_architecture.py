"""Imports point down and never run in a circle; ARCHITECTURE.md draws the same rooms.

A room is a folder of modules (or one module of `ray_jobs` that is no folder). A room imports its own modules and the rooms below it.
"""

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("cluster", "datamodules", "lightning_modules", "ray_jobs", "reprise")
FLOORS = (
    ("ray_jobs.__main__",),
    ("ray_jobs.cli", "reprise"),
    ("ray_jobs.demo", "ray_jobs.doctor", "ray_jobs.completion"),
    ("ray_jobs.report",),
    ("ray_jobs.jobs",),
    ("ray_jobs.reproduce", "ray_jobs.tune", "ray_jobs.exchange", "ray_jobs.play"),
    ("ray_jobs.train",),
    ("ray_jobs.command", "ray_jobs.recipes"),
    ("ray_jobs.rl.together",),
    ("ray_jobs.rl.learning", "ray_jobs.rl.algorithms", "ray_jobs.tabular", "ray_jobs.bandits", "ray_jobs.evolution", "ray_jobs.self_play"),
    ("ray_jobs.rl.rollout", "ray_jobs.rl.replay"),
    ("ray_jobs.rl.batches", "ray_jobs.rl.networks", "ray_jobs.rl.optim", "ray_jobs.results", "ray_jobs.distributed"),
    ("ray_jobs.rl.contract", "ray_jobs.rl.maths", "ray_jobs.rl.fast", "ray_jobs.run", "ray_jobs.envs"),
    ("ray_jobs.recipe",),
    ("ray_jobs.compat", "ray_jobs.errors", "ray_jobs.terminal"),
    ("lightning_modules.exchange",),
    ("lightning_modules.diffusion",),
    ("lightning_modules.gan", "lightning_modules.autoregressive"),
    ("lightning_modules.vae",),
    ("lightning_modules.flows",),
    ("lightning_modules.nets", "lightning_modules.metrics", "datamodules.readers", "cluster.kubernetes", "cluster.slurm"),
    ("lightning_modules", "datamodules.labs", "cluster.ray_clusters"),
    ("datamodules", "cluster"),
)  # fmt: skip
"""Rooms from the roof down; the rooms of one floor do not import each other."""
ALONE = ("cluster", "datamodules", "lightning_modules")
"""Packages that import no other package of ours."""
PURE = "ray_jobs/rl/maths"
ALGORITHMS = "ray_jobs/rl/algorithms"
ALGORITHMS_MAY = ("batches", "contract", "maths", "networks", "optim")
RUNTIME = ("ray_jobs/rl/learning", "ray_jobs/rl/rollout", "ray_jobs/rl/replay")
RECIPES = "ray_jobs/recipes"
RAY = (
    "ray_jobs/distributed",
    "ray_jobs/train/groups/on_cluster.py",
    "ray_jobs/tune/ray_tune.py",
    "ray_jobs/reproduce/seeds_on_ray.py",
    "ray_jobs/doctor.py",
    "ray_jobs/rl/learning/group.py",
    "ray_jobs/rl/rollout/pools.py",
    "cluster/ray_clusters",
)
"""Where ray may be imported."""
LIBRARIES = ("Module", "LightningModule", "LightningDataModule", "Callback", "Optimizer", "Dataset")
LIBRARIES_DESCRIBE = (
    "forward", "training_step", "setup", "train_dataloader", "state_dict", "load_state_dict", "on_save_checkpoint", "on_train_start",
    "on_train_batch_start", "on_train_batch_end", "on_before_optimizer_step",
)  # fmt: skip
"""Base classes of torch and Lightning, and the methods of theirs whose meaning a class of ours does not change."""
FILES_IN_A_FOLDER, LINES_IN_A_FILE = 15, 400


def files(*under: str) -> list[pathlib.Path]:
    """The modules below folders; a folder that is not there fails the test, or a rule would hold for nothing."""
    found = []
    for name in under or PACKAGES:
        here = ROOT / name
        assert here.exists(), f"{name} is not there: this test must name what took its place"
        found += [here] if here.is_file() else sorted(here.rglob("*.py"))
    return found


def module(file: pathlib.Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(f): f for f in files()}


def imports(file: pathlib.Path, *, top_only: bool = False) -> Iterator[str]:
    """Every name that a file imports, in full; `if TYPE_CHECKING` blocks count, for they are arrows too."""
    tree = ast.parse(file.read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module(file)}: write the whole name of what is imported"
            yield from (f"{node.module}.{a.name}" for a in node.names)


def ours(file: pathlib.Path) -> set[str]:
    """The modules of ours that a file imports."""
    found = set()
    for name in imports(file):
        at = name if name in MODULES else name.rpartition(".")[0]
        found |= {at} & MODULES.keys() - {module(file)}
    return found


def within(name: str, zone: str) -> bool:
    return name == zone or name.startswith(zone + ".")


def room(name: str) -> str:
    """The room of a module: the longest that FLOORS names."""
    return max((r for floor in FLOORS for r in floor if within(name, r)), key=len, default="")


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other (strongly connected components of more than one node)."""
    reach = {n: set(to) for n, to in graph.items()}
    changed = True
    while changed:
        changed = False
        for to in reach.values():
            more = set().union(*(reach.get(m, set()) for m in to)) - to
            to |= more
            changed = changed or bool(more)
    looped = [n for n in graph if n in reach[n]]
    return [list(g) for g in {tuple(sorted(m for m in looped if m in reach[n] and n in reach[m])) for n in looped}]


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_no_file_imports_itself_through_others():
    assert circles({name: ours(file) for name, file in MODULES.items()}) == []


def test_every_module_is_in_a_room_and_every_room_has_modules():
    without = [m for m in MODULES if not room(m) and m != "ray_jobs" and m != "ray_jobs.rl"]
    assert without == []
    assert [r for floor in FLOORS for r in floor if not any(room(m) == r for m in MODULES)] == []


@pytest.mark.parametrize("name", sorted(MODULES))
def test_arrows_point_down(name):
    floor = {r: i for i, rooms in enumerate(FLOORS) for r in rooms}
    for other in ours(MODULES[name]):
        here, there = room(name), room(other)
        if here != there and there:
            assert floor[here] < floor[there], f"{name} must not import {other}: {there} is not below {here}"


def test_the_packages_below_import_no_other():
    for package in ALONE:
        for file in files(package):
            assert {m.split(".")[0] for m in ours(file)} <= {package}, file


def test_ray_is_imported_where_it_is_needed_alone():
    allowed = set(files(*RAY))
    for file in files():
        if any(n.split(".")[0] == "ray" for n in imports(file)):
            assert file in allowed, f"{module(file)} must not import ray"
            assert not any(n.split(".")[0] == "ray" for n in imports(file, top_only=True)), (
                f"{module(file)}: inside functions"
            )


@pytest.mark.parametrize("file", files(ALGORITHMS), ids=module)
def test_algorithms_import_their_parts_and_never_each_other(file):
    parts = [m for m in ours(file) if within(m, "ray_jobs.rl")]
    assert all(m.split(".")[2] in ALGORITHMS_MAY for m in parts), parts


def test_an_algorithms_file_mentions_no_speed_trick():
    for file in files(ALGORITHMS):
        text = file.read_text().lower()
        assert not [w for w in ("taped", "pull_back", "vmap", "cache", "data_ptr", "memory layout") if w in text], file


@pytest.mark.parametrize("file", files(PURE), ids=module)
def test_the_functional_core_imports_torch_and_itself_alone(file):
    allowed = {"__future__", "torch", "numpy", "math", "collections", "typing", "scipy", "dataclasses"}
    foreign = {n for n in imports(file) if n.split(".")[0] not in allowed and not within(n, "ray_jobs.rl.maths")}
    assert not foreign, foreign


def test_the_runtime_never_names_an_algorithm():
    names = {f.stem for f in files(ALGORITHMS)} - {"__init__"}
    assert len(names) >= 20
    for file in files(*RUNTIME):
        found = {n.split(".")[-1] for n in imports(file)}
        found |= {n.id for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Name)}
        assert not {f.lower() for f in found} & names, file


def test_recipes_import_nothing_heavy_at_their_top():
    for file in files(RECIPES):
        names = {n.split(".")[0] for n in imports(file, top_only=True)}
        assert names <= {
            "__future__",
            "functools",
            "itertools",
            "typing",
            "math",
            "collections",
            "dataclasses",
            "ray_jobs",
        }, file


def test_folders_stay_small():
    folders = {f.parent for f in files()}
    sizes = {d: len([f for f in d.glob("*.py") if f.stem != "__init__"]) for d in folders}
    assert {str(d.relative_to(ROOT)): n for d, n in sizes.items() if n > FILES_IN_A_FOLDER} == {}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_and_data_work_without_ray():
    code = "import sys; sys.modules['ray'] = None\n"
    modules = [module(f) for f in files("lightning_modules", "datamodules")]
    assert run(code + "\n".join(f"import {m}" for m in modules) + "\nprint('fine')") == "fine\n"


COMMANDS = [
    "--help",
    "list",
    "list flows",
    "list --claims",
    "show ppo_cartpole",
    "train --help",
    "train ppo_cartpole --help",
    "train ppo_cartpol",
    "tune ddpm_digits --help",
    "submit --help",
    "completion bash",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_answers_without_torch_ray_or_lightning(command):
    code = f"import sys\nfrom ray_jobs.cli import main\ntry: main({command.split()!r})\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'ray', 'lightning', 'gymnasium'} & set(sys.modules)))"
    assert run(code).endswith("[]\n")


@pytest.mark.parametrize("file", files(), ids=module)
def test_files_stay_small(file):
    assert len(file.read_text().splitlines()) <= LINES_IN_A_FILE


# ---- every public name is described


def public(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.AST, ast.ClassDef | None]]:
    """Public functions, classes and methods of a module: name, node, and the class that a method is in."""
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield inside + node.name, node, tree if isinstance(tree, ast.ClassDef) else None
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{node.name}.")


def described_elsewhere(method: ast.AST, of: ast.ClassDef, classes: dict[str, list[ast.ClassDef]]) -> bool:
    """Whether a method needs no docstring: it overrides one that has it, fills in a protocol's, or is a property's setter.

    Methods of nn.Module and of Lightning's classes are described by those packages.
    """
    if any(ast.unparse(d).endswith(".setter") for d in method.decorator_list):
        return True
    bases = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in of.bases]
    above = [c for base in bases for c in classes.get(base, []) if c is not of]
    protocols = [
        c for found in classes.values() for c in found if any(ast.unparse(b).startswith("Protocol") for b in c.bases)
    ]
    for cls in (*above, *(p for p in protocols if p is not of)):
        for node in cls.body:
            if isinstance(node, ast.FunctionDef) and node.name == method.name and ast.get_docstring(node):
                return True
    if any(described_elsewhere(method, cls, classes) for cls in above):
        return True
    return method.name in LIBRARIES_DESCRIBE and any(base in LIBRARIES for base in bases)


def test_everything_public_is_described():
    trees = {f: ast.parse(f.read_text()) for f in files(*PACKAGES, "benchmarks")}
    classes: dict[str, list[ast.ClassDef]] = {}
    for node in (n for tree in trees.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)):
        classes.setdefault(node.name, []).append(node)
    without = [
        f"{file.relative_to(ROOT)}: {name}"
        for file, tree in trees.items()
        for name, node, of in public(tree)
        if not ast.get_docstring(node) and not (of and described_elsewhere(node, of, classes))
    ]
    assert without == []
