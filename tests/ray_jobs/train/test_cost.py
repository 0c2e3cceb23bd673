"""What a training takes: against closed forms for a small network, against real tensors, and for every recipe without running it."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from datamodules.labs.density2d import Density2D
from datamodules.labs.shapes import Shapes
from lightning_modules.diffusion.models.edm import edm
from lightning_modules.model import Generative
from lightning_modules.nets.attention import attend
from lightning_modules.nets.unet import UNet
from lightning_modules.optim import Adam, AdamW, RMSProp
from ray_jobs.compat import flop_counter
from ray_jobs.errors import UsageError
from ray_jobs.recipe.plan import Fit
from ray_jobs.report.catalogue import show
from ray_jobs.train.costs import words
from ray_jobs.train.costs.counting import Cost, Stage, cost, counted, state_per_weight
from ray_jobs.train.costs.weightless import Live, weightless

W, D = 32, 2
"""Width and inputs of the network below."""


class Square(Generative):
    """Two linear layers, whose output's mean square is the loss."""

    optim, shape = Adam(1e-3), (D,)

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(D, W, bias=False), nn.Sigmoid(), nn.Linear(W, W, bias=False))

    def losses(self, batch):
        return {"square": self.net(batch["x"]).square().mean()}


def small(**options):
    with weightless():
        made = Fit(Square(), Density2D(), batch=64, **options)
    return counted(made)


def test_weights_have_no_memory_inside_and_have_some_outside():
    with weightless():
        assert nn.Linear(2, 3).weight.is_meta
    assert not nn.Linear(2, 3).weight.is_meta


def test_parts_and_operations_are_those_of_the_closed_form():
    found, weights = small(ema=0.9), 4 * (D * W + W * W)
    assert found.parameters == found.trained == D * W + W * W
    assert (found.weights, found.gradients, found.optimiser, found.averages) == (weights, weights, 2 * weights, weights)
    [stage] = found.stages
    forward, backward = 2 * (D * W + W * W), 2 * (D * W + 2 * W * W)  # the input needs no gradient
    assert stage.flop == forward + backward
    assert 4 * 3 * W <= stage.each <= 4 * 6 * W  # three hidden tensors are kept, and few more live for a while
    assert small(ema_power="0.05,0.10").averages == 2 * weights


def test_the_memory_of_activations_is_that_of_real_tensors():
    model, n = Square(), 256
    x = torch.randn(n, D)
    with Live([*model.parameters(), x]) as live:
        model.losses({"x": x})["square"].backward()
    [stage] = small().stages
    assert stage.activations(n) == pytest.approx(live.most, rel=0.05)


def test_attention_keeps_no_scores_and_counts_its_products():
    q, k, v = (torch.empty(2, 4, 1024, 16, device="meta", requires_grad=True) for _ in range(3))
    with flop_counter() as flop, Live([q, k, v]) as live:
        attend(q, k, v).sum().backward()
    assert live.most < 10 * q.nbytes < 4 * 2 * 4 * 1024**2
    assert flop.get_total_flops() == 7 * 2 * 2 * 4 * 1024**2 * 16  # 2 products forward; 4 backward, and 1 once more


@pytest.mark.parametrize(("optim", "state"), [(Adam(), 2), (AdamW(), 2), (RMSProp(), 1)])
def test_the_state_of_an_optimiser(optim, state):
    assert state_per_weight(optim) == state


def test_recomputed_activations_take_less_memory_and_more_operations():
    def of(checkpoint):
        with weightless():
            net = UNet(3, width=16, multiples=(1,), blocks=3, head=16, attention=(), checkpoint=checkpoint)
        return counted(Fit(edm(net, (3, 32, 32)), Shapes())).stages[0]

    plain, again = of(False), of(True)
    assert again.each < 0.7 * plain.each and 1.2 * plain.flop < again.flop < 1.4 * plain.flop


def test_the_largest_of_ddpm_is_that_of_the_paper():
    """35.7 million parameters (appendix B); three times the 12.4 GFLOP of a forward pass."""
    found = cost("ddpm_cifar10")
    assert 35.5e6 < found.parameters < 36e6
    assert found.stages[0].flop == pytest.approx(3 * 12.4e9, rel=0.01)


def test_stages_are_counted_apart_and_frozen_parts_have_no_state():
    found = cost("controlnet_shapes", {"steps": 10, "width": 8})
    assert [stage.name for stage in found.stages] == ["base", "control"] and found.trained == found.parameters
    frozen = cost("controlnet_shapes", {"steps": 10, "width": 8, "base_steps": 0})
    assert [stage.name for stage in frozen.stages] == ["control"]
    assert frozen.trained < frozen.parameters == found.parameters and frozen.optimiser == 8 * frozen.trained
    assert frozen.averages == frozen.gradients == 4 * frozen.trained


@pytest.mark.parametrize(
    "recipe", ["wgan_gp_grid", "gan_grid", "maf_density2d", "iddpm_gauss_image@bound", "pixelcnn_digits"]
)
def test_other_kinds_of_models_are_counted_too(recipe):
    found = cost(recipe)
    assert not found.unknown and all(stage.flop > 0 and stage.each >= 0 for stage in found.stages)


def a_cost(each, fixed=100.0, batch=64, accumulate=1):
    return Cost(0, 0, int(fixed), 0, 0, 0, batch, accumulate, (Stage("", 1.0, 0.0, each),))


def test_the_fewest_gpus_share_the_batch_evenly_and_have_room():
    assert a_cost(1.0).fewest(200) == 1  # 164 of 180
    assert a_cost(10.0).fewest(200) == 8  # 8 examples each
    assert a_cost(10.0, batch=48).fewest(200) == 6
    assert a_cost(10.0).fewest(100) == 0 and words.fewer_with(a_cost(10.0), 100 / words.GIB) is None
    assert a_cost(10.0).on_each(8) == 180
    assert a_cost(10.0).fewest(200, 8) == 1 and words.fewer_with(a_cost(10.0), 200 / words.GIB) == (8, 1)
    assert "no number" in words.gpus(a_cost(10.0), 100 / words.GIB)


def test_agents_have_no_cost():
    with pytest.raises(UsageError, match="trains no generative model"):
        cost("ppo_cartpole")


def test_show_prints_it_and_imports_torch_for_it_alone():
    code = "import sys; from ray_jobs.cli import main; main({}); sys.exit(9 if 'torch' in sys.modules else 7)"
    for argv, status in ((["show", "gan_grid"], 7), (["show", "gan_grid", "--cost"], 9)):
        done = subprocess.run([sys.executable, "-c", code.format(argv)], capture_output=True, text=True)
        assert done.returncode == status, done.stderr
    assert "parameters" in done.stdout and "GPUs" in done.stdout and "1 of 80 GiB" in done.stdout


def test_settings_are_those_of_the_training_and_are_checked(capsys):
    show("gan_grid", cost=True, settings={"batch": 2048})
    assert "2048 examples" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UsageError, match="no setting 'batc'"):
        show("gan_grid", cost=True, settings={"batc": 2048})
    with pytest.raises(UsageError, match="gpu_memory"):
        show("gan_grid", cost=True, gpu_memory=-1.0)
