"""What docs/security.md promises, held against the source: a new way to read a stranger's file, or to listen, must be added here."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("cluster", "datamodules", "lightning_modules", "ray_jobs", "benchmarks")
FILES = sorted(f for p in PACKAGES for f in (ROOT / p).rglob("*.py") if "peers" not in f.parts)
RUNS = {
    "pickle.loads",
    "pickle.load",
    "Unpickler",
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "marshal.loads",
    "shelve.open",
}
RUNS |= {
    "cloudpickle.loads",
    "cloudpickle.load",
    "joblib.load",
    "dill.load",
    "dill.loads",
    "yaml.load",
    "yaml.unsafe_load",
}
RUNS |= {"read_pickle", "load_from_checkpoint", "extractall", "yaml.full_load", "subprocess.getoutput"}
"""Calls that can run what a file or a text says; `.eval()` of a module is told from `eval()`."""
KNOWN = {
    ("ray_jobs/distributed/crew.py", "pickle.loads"): "what the same line pickled: whether an exception can be sent",
    ("ray_jobs/envs/env_state.py", "pickle.loads"): "only with --trust; else the restricted one below it",
}
LISTENS = {
    "bind",
    "listen",
    "create_server",
    "HTTPServer",
    "ThreadingHTTPServer",
    "TCPServer",
    "serve",
    "start_server",
    "run_app",
}
LOOPBACK = {
    ("ray_jobs/train/groups/ddp_group.py", "bind"): "127.0.0.1, to find a free port",
    ("cluster/ray_clusters/plan.py", "bind"): "the cluster's --host, loopback by default, to find free ports",
    ("ray_jobs/self_play/gtp/engine.py", "bind"): "arguments to the parameters of a function, which is no address",
    ("ray_jobs/play/verbs.py", "serve"): "the Go Text Protocol on the standard streams",
}


def name(call: ast.Call) -> str:
    """What is called, with what it is an attribute of where that is a name."""
    f = call.func
    if isinstance(f, ast.Attribute):
        return f"{f.value.id if isinstance(f.value, ast.Name) else '?'}.{f.attr}"
    return f.id if isinstance(f, ast.Name) else ""


def calls(file: pathlib.Path):
    return [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]


def found(wanted):
    """(file, what is called) of every call of one of these, by its whole name or its last part."""
    for file in FILES:
        for call in calls(file):
            whole = name(call)
            hits = {whole, whole.rpartition(".")[2]} & wanted
            if hits and not whole.endswith((".eval", ".exec")):
                yield file.relative_to(ROOT).as_posix(), hits.pop()


def test_nothing_new_runs_what_a_file_says():
    assert set(found(RUNS)) == set(KNOWN)


def test_no_class_unpickles_but_the_one_that_finds_nothing():
    found = set()
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Unpickler") for base in node.bases):
                found.add(file.relative_to(ROOT).as_posix())
    assert found == {"datamodules/readers/pickled_table.py"}


def test_nothing_new_listens():
    assert set(found(LISTENS)) == set(LOOPBACK)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_files_are_loaded_as_values_and_no_shell_reads_a_command(file):
    for call in calls(file):
        given = {k.arg: k.value for k in call.keywords}
        whole = name(call)
        if whole == "torch.load":
            assert getattr(given.get("weights_only"), "value", None) is True, f"{file}:{call.lineno}"
        if whole == "np.load":
            assert getattr(given.get("allow_pickle"), "value", None) is False, f"{file}:{call.lineno}"
        assert getattr(given.get("shell"), "value", False) is False, f"{file}:{call.lineno}: shell=True"


def test_the_walk_sees_what_it_should():
    tree = ast.parse("pickle.loads(x); model.eval(); eval(x); a.b.extractall()")
    names = [name(n) for n in ast.walk(tree) if isinstance(n, ast.Call)]
    assert sorted(names) == ["?.extractall", "eval", "model.eval", "pickle.loads"]
