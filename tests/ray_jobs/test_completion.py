"""Completion, asked as a shell asks: bash runs the printed script, and its function fills COMPREPLY."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ray_jobs.cli import main
from ray_jobs.recipe.loading import families, names

ROOT = Path(__file__).parents[2]
ASK = """source "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9 COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
_python_argcomplete reprise
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script for bash, and a `reprise` that fails where torch is imported."""
    folder = tmp_path_factory.mktemp("bin")
    code = "import sys; sys.modules['torch'] = None; sys.argv[0] = 'reprise'; from ray_jobs.cli import main; sys.exit(main())"
    (folder / "reprise").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    (folder / "reprise").chmod(0o755)
    script = subprocess.run(
        [folder / "reprise", "completion", "bash"], env=env(folder), stdout=subprocess.PIPE, check=True
    )
    (folder / "script").write_bytes(script.stdout)
    return folder


def env(folder: Path) -> dict[str, str]:
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("reprise tra", {"train"}),
        ("reprise cluster ", {"up", "status", "down", "env", "yaml"}),
        ("reprise train ppo_cartpole --hor", {"--horizon"}),
        ("reprise train ddpm_digits --precision ", {"32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"}),
        ("reprise tune ppo_cartpole --sched", {"--scheduler"}),
        ("reprise reproduce ppo_cartpole dqn_", {n for n in names() if n.startswith("dqn_")}),
        ("reprise show maf_u", {n for n in names() if n.startswith("maf_u")}),
        ("reprise list ", set(families()) | {"--claims", "--json"}),
        ("reprise submit --on slurm --parti", {"--partition"}),
        ("reprise submit --on slurm train ppo_cartpole --hor", {"--horizon"}),
        ("reprise completion ", {"bash", "zsh", "fish"}),
        ("reprise sample ru", {"runs/"}),
        ("reprise nons", set()),
    ],
)
def test_bash_completes(line, expected, folder, tmp_path):
    (tmp_path / "runs").mkdir()
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", folder / "script", line], env=env(folder), cwd=tmp_path, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert {word.strip() for word in done.stdout.splitlines()} - {""} == expected, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell, capsys):
    assert main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    assert "reprise" in shown and "COMP_LINE" in shown
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=shown, text=True, check=True)
