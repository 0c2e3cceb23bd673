"""What is sent: git itself says which files its ignore rules leave out."""

import os
import subprocess
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.package import collect, ignored, patterns, write_zip

FILES = ("a", "b.py", "a.ckpt", "src/a", "src/b.py", "src/deep/a", "src/deep/c.log", "docs/x y", "docs/a.py", "q/[z]")
PIECES = ("a", "b", "*", "**", "?", "/", ".py", "src", "deep", "docs", "[ab]", "[!a]", "[a-c]", ".log", "c", "x y", "q")


def tree(root):
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def git_keeps(root) -> set[str]:
    line = ["git", "-c", "core.excludesFile=", "ls-files", "-z", "--others", "--exclude-standard"]
    return set(subprocess.run(line, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")) - {""}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tree(tmp_path_factory.mktemp("repository"))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


pattern = st.builds(
    lambda no, parts, end: no + "".join(parts) + end,
    st.sampled_from(["", "", "!"]),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=4),
    st.sampled_from(["", "", "/"]),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(lines=st.lists(pattern, max_size=3), inner=st.lists(pattern, max_size=2))
def test_the_same_files_stay_as_git_keeps(repository, lines, inner):
    (repository / ".gitignore").write_text("\n".join(lines))
    (repository / "src/.gitignore").write_text("\n".join(inner))
    ours = {name for name, _ in collect(repository).files}
    assert ours | {"a.ckpt"} == git_keeps(repository) | {"a.ckpt"}  # checkpoints stay behind whatever git says


def test_a_folder_that_is_kept_keeps_no_files_that_are_ignored_above(repository):
    (repository / ".gitignore").write_text("a\n")
    (repository / "src/.gitignore").write_text("!deep\n")
    kept = {name for name, _ in collect(repository).files}
    assert "src/deep/a" not in kept and "src/deep/c.log" in kept
    assert kept == git_keeps(repository) - {"a.ckpt"}


def test_a_line_that_is_no_pattern_matches_nothing(repository):
    (repository / ".gitignore").write_text("!\n\\\ndocs\n")
    (repository / "src/.gitignore").write_text("")
    assert {name for name, _ in collect(repository).files} == git_keeps(repository) - {"a.ckpt"}


@pytest.mark.parametrize(
    ("line", "path", "folder", "out"),
    [
        ("*.pt", "x/y.pt", False, True),
        ("/x", "y/x", False, False),
        ("x/", "x", False, False),
        ("x/", "y/x", True, True),
        ("# x", "# x", False, False),
        (r"\#x", "#x", False, True),
        ("a/**/b", "a/b", False, True),
        ("a/**/b", "a/c/d/b", False, True),
        ("x ", "x", False, True),
    ],
)
def test_rules(line, path, folder, out):
    assert ignored(path + "/" * folder, patterns([line])) is out


def test_history_results_environments_and_secrets_stay_behind_and_are_named(tmp_path):
    root = tree(tmp_path)
    for name in (".git/HEAD", "runs/x/metrics.jsonl", "env/pyvenv.cfg", "src/__pycache__/a.pyc", ".env", "k.pem"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / ".rayignore").write_text("docs\n")
    (root / "link").symlink_to("src")
    (root / "broken").symlink_to("nowhere")
    package = collect(root)
    kept = (set(FILES) | {".rayignore"}) - {"a.ckpt", "docs/x y", "docs/a.py"}
    assert {name for name, _ in package.files} == kept
    named = {".git/", "runs/", "env/", "src/__pycache__/", ".env", "k.pem", "docs/", "link/", "broken", "a.ckpt"}
    assert set(package.excluded) == named


def test_the_archive_holds_the_files_and_depends_on_nothing_else(tmp_path):
    root = tree(tmp_path / "root")
    package = collect(root)
    write_zip(package, tmp_path / "1.zip")
    os.utime(root / "a", (10**9, 10**9))
    (root / "runs").mkdir()
    write_zip(collect(root), tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {n: n for n, _ in package.files}


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        collect(tmp_path / "missing")
