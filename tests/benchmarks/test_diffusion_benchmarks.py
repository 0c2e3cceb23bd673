"""The benchmarks of diffusion: their networks answer alike, work and evaluations are counted, and a machine without a GPU is named."""

import json

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu, samplers
from lightning_modules.conditions import Cond
from lightning_modules.diffusion import schedules
from lightning_modules.diffusion.models.ddpm import ddpm
from lightning_modules.nets.dit import Size
from lightning_modules.nets.mlp import ResidualMLP

DIFFUSERS = "diffusers is not installed: pip install -e '.[test]'."


def test_both_dits_answer_the_same_and_train():
    pytest.importorskip("diffusers", reason=DIFFUSERS)
    from benchmarks import dit

    all_of = dit.contestants(Size(32, 2, 2), 8)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = dit.differences(all_of, x)
    assert found["diffusers"] < 1e-4 and found["ours float32"] == 0 and 0 < found["ours"] < 0.2
    for contestant in all_of.values():
        before = [p.clone() for p in contestant.model.net.parameters()]
        for step in range(2):  # the first has a learning rate of 0: it warms up
            contestant.step(x, step)
        assert any(not torch.equal(a, b) for a, b in zip(before, contestant.model.net.parameters(), strict=True))


def test_the_unets_train_and_draw():
    pytest.importorskip("diffusers", reason=DIFFUSERS)
    from benchmarks import unet

    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for net in (unet.ours(), unet.Peer()):
        contestant = unet.Contestant(net)
        assert contestant.step(x, 0) > 0 and contestant.sample(1, 1) > 0
    assert unet.ratios({"ours": [1.0, 2.0], "peer": [2.0, 6.0]}, 4) == {
        "ours / peer": 2.5, "ours images/s": 2.667, "peer images/s": 1.0
    }  # fmt: skip


class Line(nn.Module):
    """A network whose products can be counted by hand."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(64, 64)

    def forward(self, x, level, cond):
        return self.body(x.flatten(1)).reshape(x.shape)


def test_work_is_that_of_the_products_forward_and_back(monkeypatch):
    monkeypatch.setattr(gpu, "build", lambda of, tiny: (Line(), (1, 8, 8)))
    forward = 2 * 64 * 64
    assert gpu.work(gpu.Contender("unet"), True, "cpu", batch=4) == 2 * forward  # the input needs no gradient
    assert gpu.peak("NVIDIA H200", 0) == 989e12 and gpu.peak("NVIDIA H200", 1.0) == 1.0 and gpu.peak("cpu", 0) == 0


def test_the_networks_of_the_gpu_benchmark_run_on_a_cpu(tmp_path):
    out = tmp_path / "gpu.json"
    small = [
        "--device",
        "cpu",
        "--tiny",
        "--batch",
        "2",
        "--steps",
        "1",
        "--rounds",
        "1",
        "--peak",
        "1e12",
        "--out",
        str(out),
    ]
    assert gpu.main([*small, "--only", "dit: float32"]) == 0
    found = json.loads(out.read_text())
    assert found["device"] == "cpu" and found["dit: float32"]["images/s"] > 0 and found["dit: float32"]["MFU %"] >= 0
    step = gpu.stepper(
        model := gpu.trained(gpu.Contender("unet", True, True), True, "cpu"), gpu.examples(model, 2, "cpu")
    )
    step(0)
    assert model.net.enter.weight.is_contiguous(memory_format=torch.channels_last)


def forward_gflop(net):
    """Work of a forward pass of a network at its paper's scale, counted without any memory."""
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        made, shape = gpu.build(gpu.Contender(net), False)
        made(torch.empty(1, *shape), torch.empty(1), Cond())
    return counter.get_total_flops() / 1e9


def test_the_networks_are_of_the_papers_scale():
    """DDPM's U-Net takes 12.4 GFLOP; DiT-B/2 what its products do: 256 rows of width 768 in 12 blocks."""
    rows, width, depth = 256, 768, 12
    products = depth * (12 * rows * width**2 + 2 * rows**2 * width) + 2 * rows * width * 16
    vectors = (depth * 6 + 2) * width**2 + (width // 4 * 2 + width) * width
    assert forward_gflop("dit") == pytest.approx(2 * (products + vectors) / 1e9, rel=1e-3)
    assert forward_gflop("unet") == pytest.approx(12.4, rel=0.03)


def test_without_a_gpu_one_sentence_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 1
    assert capsys.readouterr().err == f"{gpu.NO_GPU}\n" and not (tmp_path / "gpu.json").exists()


def test_evaluations_are_counted_and_every_sampler_has_a_line(seeded):
    model = ddpm(ResidualMLP((2,), width=8, depth=1), (2,), levels=schedules.linear(20, 5e-3, 0.9))
    rows = list(samplers.rows_of("ddpm", model, (2, 4), 8, lambda x: x.abs().mean().item()))
    calls = {(row["sampler"], row["steps"]): row["evaluations"] for row in rows}
    assert calls["ddim", 4] == 4 and calls["heun", 4] == 7 and calls["dpm-solver", 2] == 2
    assert calls["langevin", 2] > 50 and {row["sampler"] for row in rows} == set(model.samplers)
    lines = samplers.table(rows).splitlines()
    assert lines[0] == "| model | sampler | 2 steps | 4 steps |" and len(lines) == 2 + len(model.samplers)
    assert any(line.startswith("| ddpm | heun | ") and line.endswith("(7) |") for line in lines)


def test_a_run_is_trained_once_and_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(samplers, "STEPS", (1, 2))
    options = [
        "--runs",
        str(tmp_path),
        "--steps",
        "2",
        "--only",
        "edm_gauss",
        "--n",
        "32",
        "--out",
        str(tmp_path / "out.json"),
    ]
    samplers.main(options)
    made = (tmp_path / "edm_gauss_image" / "result.json").stat().st_mtime_ns
    samplers.main(options)
    assert (tmp_path / "edm_gauss_image" / "result.json").stat().st_mtime_ns == made
    rows = json.loads((tmp_path / "out.json").read_text())["parts"]["edm_gauss_image"]["ours"]
    assert len(rows) >= 10 and all(row["evaluations"] >= row["steps"] for row in rows)
    assert (tmp_path / "out.md").read_text().startswith("| model | sampler | 1 steps |")


def test_the_curve_of_guidance_is_measured_and_drawn(tmp_path, monkeypatch, capsys):
    from benchmarks import guidance
    from ray_jobs.recipe.spec import Spec, Where
    from ray_jobs.train.launch import launch

    small = {
        "clip": True,
        "clip_steps": 1,
        "steps": 2,
        "width": 8,
        "batch": 4,
        "sample_steps": 2,
        "levels": 8,
        "save_every": 2,
    }
    run = launch(Spec("glide_shapes", small, 0, Where(address="local"), str(tmp_path / "run"))).path
    monkeypatch.setattr("sys.argv", ["guidance", str(run), "--strengths", "0,2", "--n", "16"])
    guidance.main()
    found = json.loads((run / "guidance.json").read_text())["curves"]
    assert found.keys() == {"free", "clip"} and all(curve.keys() == {"0.0", "2.0"} for curve in found.values())
    assert found["free"]["0.0"] == found["clip"]["0.0"]  # no guidance is none of either kind
    assert all(0 <= value <= 1 for curve in found.values() for of in curve.values() for value in of.values())
    assert all((run / f"guidance{what}.png").is_file() for what in ("", "-samples"))
