from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from ray_jobs.recipe.declare import Claim
from ray_jobs.results import plots


def test_a_grid_holds_every_pixel_of_every_image(tmp_path: Path) -> None:
    x = torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    path = plots.grid(x, tmp_path / "deep" / "grid.png", columns=3, side=1)
    sheet = (imread(path)[..., :3] * 255).round()
    assert sheet.shape == (2 * 5 + 1, 3 * 7 + 1, 3)
    for i, image in enumerate(x):
        top, left = 1 + 5 * (i // 3), 1 + 7 * (i % 3)
        expected = ((image.numpy() + 1) * 127.5).round().transpose(1, 2, 0)
        assert (sheet[top : top + 4, left : left + 6] == expected).all()
    assert (sheet[0] == 255).all()
    assert (sheet[6:10, 15:21] == 255).all()  # where a sixth would be
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]  # nothing is left beside it


def test_small_images_are_enlarged_by_a_whole_factor_and_large_values_are_cut(tmp_path: Path) -> None:
    x = np.full((1, 1, 2, 2), 7.0)
    x[0, 0, 0, 0] = -7.0
    sheet = imread(plots.grid(x, tmp_path / "g.png", side=40))[..., 0]
    assert sheet.shape == (40, 40)
    assert (sheet[10:20, 10:20] == 0).all()
    assert sheet.mean() == 15 / 16


@pytest.mark.parametrize("shape", [(4, 8, 8), (0, 1, 8, 8), (2, 2, 8, 8)])
def test_a_grid_refuses_what_is_no_image(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a grid takes images"):
        plots.grid(np.zeros(shape), tmp_path / "g.png")
    with pytest.raises(ValueError, match="not finite"):
        plots.grid(np.full((1, 1, 2, 2), math.nan), tmp_path / "g.png")


def colours(path: Path) -> set[tuple[int, ...]]:
    pixels = (imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    return {tuple(map(int, p)) for p in np.unique(pixels, axis=0)}


@pytest.mark.parametrize("shape", [(9, 3, 8, 8), (9, 1, 8, 8), (50, 2), (9, 7), (4, 5, 6, 6), (3, 2, 2)])
def test_samples_of_every_shape_become_a_picture(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert len(colours(plots.samples(x, tmp_path / "s.png"))) > 5


def test_heat_maps_show_the_model_beside_the_truth_in_one_scale(tmp_path: Path) -> None:
    """A model equal to the truth gives the same map twice; a flat one is dark; x goes to the right and y up."""
    line = np.linspace(-2, 2, 40)
    x, y = np.meshgrid(line, line, indexing="ij")
    truth = -((x - 1) ** 2 + (y - 1) ** 2) / 0.1
    path = plots.densities(truth, truth, 2.0, tmp_path / "d.png")
    sheet = imread(path)[..., :3]
    bright = (sheet[..., 0] > 0.9) & (sheet[..., 2] < 0.3)  # viridis' yellow
    rows, columns = np.nonzero(bright)
    half = sheet.shape[1] / 2
    left, right = columns[columns < half], columns[columns > half]
    assert len(left) == pytest.approx(len(right), rel=0.1)
    assert rows.mean() < sheet.shape[0] / 2
    assert left.mean() > half / 2
    flat = imread(plots.densities(np.full((40, 40), -6.0), truth, 2.0, tmp_path / "f.png"))[..., :3]
    columns = np.nonzero((flat[..., 0] > 0.9) & (flat[..., 2] < 0.3))[1]
    assert len(columns) > 0
    assert (columns < half).all()
    with pytest.raises(ValueError, match="two squares"):
        plots.densities(truth, truth[:3], 2.0, tmp_path / "g.png")
    with pytest.raises(ValueError, match="NaN"):
        plots.densities(truth * math.nan, truth, 2.0, tmp_path / "g.png")


def test_a_cloud_is_drawn_over_the_truth_and_framed_by_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth, far = rng.normal(size=(400, 2)), np.full((400, 2), 1e6)
    alone = imread(plots.scatter(truth, truth, tmp_path / "a.png"))
    beside = imread(plots.scatter(far, truth, tmp_path / "b.png"))

    def blue(image: np.ndarray) -> int:  # drawn dots, above the legend
        upper = image[: int(0.88 * len(image)), :, :3]
        return int(((upper[..., 2] - upper[..., 0]) > 0.3).sum())

    assert blue(alone) > 500
    assert blue(beside) == 0
    with pytest.raises(ValueError, match=r"takes points \[n, 2\]"):
        plots.scatter(np.zeros((3, 3)), truth, tmp_path / "c.png")


def lines(values: list[float], key: str = "score") -> list[dict[str, float]]:
    return [{"step": i, key: v} for i, v in enumerate(values)]


ORANGE = tuple(int(plots.ORANGE[i : i + 2], 16) for i in (1, 3, 5))


def test_a_curve_shows_the_claim_on_its_own_metric_only(tmp_path: Path) -> None:
    claim = Claim("score", at_least=5)
    own = plots.curve(lines([1, 2, math.nan, 3]), tmp_path / "a.png", key="score", claim=claim)
    assert ORANGE in colours(own)
    nested = plots.curve(lines([1, 2], "eval/score"), tmp_path / "b.png", key="eval/score", claim=claim)
    assert ORANGE in colours(nested)
    other = plots.curve(lines([1, 2], "loss"), tmp_path / "c.png", key="loss", claim=claim)
    assert ORANGE not in colours(other)
    with pytest.raises(ValueError, match="no finite score"):
        plots.curve(lines([math.nan]), tmp_path / "d.png", key="score")


def test_a_loss_that_falls_far_is_logarithmic_and_a_return_that_rises_is_not() -> None:
    for values, scale in (([5.0, 1.0, 0.1], "log"), ([15.0, 200.0, 500.0], "linear"), ([1.0, -1.0, -9.0], "linear")):
        with plots.figure(3, 2) as (_, axes):
            plots.draw(axes, np.arange(3.0), np.array([values]), "loss", None)
            assert axes.get_yscale() == scale


def test_smooth_is_the_mean_of_the_neighbours() -> None:
    x = np.random.default_rng(0).normal(size=30)
    slow = [x[max(0, i - 4) : i + 5].mean() for i in range(30)]
    assert plots.smooth(x, 4) == pytest.approx(slow)


def test_curves_for_a_page_take_its_colours_and_no_names_twice() -> None:
    import re
    from xml.etree import ElementTree

    claim = Claim("score", at_least=5)
    drawn = [plots.curve_svg([1, 2], [[1.0, 2.0], [None, 3.0]], key="score", claim=claim) for _ in range(2)]
    ElementTree.fromstring(drawn[0].replace("xlink:", ""))  # well-formed
    assert "currentColor" in drawn[0]
    assert "var(--claim)" in drawn[0]
    assert not re.findall("#[0-9a-fA-F]{6}", drawn[0])
    assert "<style" not in drawn[0]
    names = [set(re.findall(r' id="([^"]+)"', svg)) for svg in drawn]
    assert not names[0] & names[1]
    assert all(set(re.findall(r"#(\w+)", svg)) <= n for svg, n in zip(drawn, names, strict=True))


def test_waves_are_heard_one_after_the_other_and_seen_at_their_pitch(tmp_path: Path) -> None:
    from scipy.io import wavfile

    rate, time = 8000, np.arange(2000) / 8000
    waves = torch.from_numpy(np.stack([np.sin(2 * np.pi * f * time) for f in (500, 2000)])).bfloat16()
    got, heard = wavfile.read(plots.wav(waves, rate, tmp_path / "w.wav"))
    assert got == rate and heard.dtype == np.int16 and len(heard) == 2000 + 800 + 2000
    assert np.abs(heard[:2000] / 32767 - waves[0].float().numpy()).max() < 1e-4 and not heard[2000:2800].any()
    assert len(colours(plots.spectrograms(waves, rate, tmp_path / "w.png"))) > 50
    plots.spectrograms(waves[:1, :5], rate, tmp_path / "short.png")
    for bad in (np.zeros((2, 1, 5)), np.zeros((0, 5)), np.full((1, 5), math.nan)):
        with pytest.raises(ValueError, match=r"\[n, T\]|not finite"):
            plots.wav(bad, rate, tmp_path / "bad.wav")
        with pytest.raises(ValueError, match=r"\[n, T\]|not finite"):
            plots.spectrograms(bad, rate, tmp_path / "bad.png")


def test_numbers_of_a_logarithmic_axis_are_text_and_no_formulas():
    """The style reads no formulas, because a $ in a name is a dollar; matplotlib's own numbers of such an axis are formulas."""
    falling = [10.0**-k for k in range(6)]
    svg = plots.curve_svg(list(range(6)), [falling], key="loss", claim=None)
    assert "mathdefault" not in svg and "0.001" in svg
