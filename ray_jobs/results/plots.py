"""Pictures of a run: grids of images, clouds of points, learning curves. One style, safe for colour-blind eyes.

Matplotlib is imported when a picture is drawn, with the Agg canvas: no display is needed. Files are written aside and renamed.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ray_jobs.results.store import short
from ray_jobs.run.files import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ray_jobs.recipe.declare import Claim
    from ray_jobs.results.store import Result
    from ray_jobs.run.folder import Run

# Okabe and Ito's palette, which every kind of colour vision can distinguish
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a8f98"
INK, LINE = "#1f2430", "#d5d9e0"
STYLE = {
    "font.size": 10.0, "axes.titlesize": 10.0, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.edgecolor": LINE, "axes.labelcolor": INK, "axes.titlecolor": INK, "text.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": LINE, "grid.linewidth": 0.6, "xtick.color": INK, "ytick.color": INK, "xtick.major.size": 0.0,
    "ytick.major.size": 0.0, "lines.linewidth": 1.8, "svg.fonttype": "none", "text.parse_math": False, "figure.dpi": 110.0,
}  # fmt: skip


# ---- samples


def samples(drawn: Any, path: Path, *, truth: Any = None) -> Path:
    """Samples as a PNG, by their shape: images [n, 1 or 3, H, W] as a grid, points [n, 2] as a cloud over `truth` [m, 2],
    anything else [n, *D] as one grey row for each sample.

    Raises:
        ValueError: there is none, or a value is not finite.
    """
    x = _array(drawn)
    if x.ndim == 4 and x.shape[1] in (1, 3):
        return grid(x, path)
    if x.ndim == 2 and x.shape[1] == 2:
        return scatter(x, truth, path)
    low, high = (x.min(), x.max()) if x.size else (0.0, 1.0)
    rows = (x.reshape(1, 1, len(x), -1) - low) / max(high - low, 1e-12) * 2 - 1
    return grid(rows, path)


def grid(samples: Any, path: Path, *, columns: int | None = None, side: int = 480) -> Path:
    """Images side by side, as a PNG.

    Args:
        samples: [n, C, H, W] in [-1, 1], C 1 (grey) or 3 (RGB); a tensor on any device or an array. Values beyond are cut.
        path: the file to write.
        columns: images in a row; by default the grid is nearly square.
        side: small images are enlarged, by a whole factor, until the grid is about so many pixels wide.

    Raises:
        ValueError: another shape, no image, or a value that is not finite.
    """
    x = _array(samples)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not len(x):
        raise ValueError(f"a grid takes images [n, 1 or 3, H, W] with n at least 1, and was given {list(x.shape)}")
    sheet = tile(np.clip((x + 1) * 127.5, 0, 255).round().astype(np.uint8), columns or math.ceil(math.sqrt(len(x))))
    zoom = max(1, round(side / sheet.shape[1]))
    return _image(sheet.repeat(zoom, 0).repeat(zoom, 1), path)


def tile(pixels: np.ndarray, columns: int) -> np.ndarray:
    """Images [n, C, H, W] to one sheet [rows * (H + 1) + 1, columns * (W + 1) + 1, 3], white lines between them."""
    n, _, h, w = pixels.shape
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (h + 1) + 1, columns * (w + 1) + 1, 3), 255, np.uint8)
    for i, image in enumerate(pixels):
        y, x = divmod(i, columns)
        sheet[y * (h + 1) + 1 : (y + 1) * (h + 1), x * (w + 1) + 1 : (x + 1) * (w + 1)] = image.transpose(1, 2, 0)
    return sheet


def _image(pixels: np.ndarray, path: Path) -> Path:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png")
    write(path, buffer.getvalue())
    return path


def scatter(samples: Any, truth: Any, path: Path, *, most: int = 5_000) -> Path:
    """Samples [n, 2] over draws of the true distribution [m, 2] (or None), as a PNG; the axes show where the truth lies.

    Raises:
        ValueError: another shape or a value that is not finite.
    """
    clouds = {"truth": truth, "samples": samples}
    points = {name: _array(cloud)[:most] for name, cloud in clouds.items() if cloud is not None}
    if any(c.ndim != 2 or c.shape[1] != 2 or not len(c) for c in points.values()):
        raise ValueError(f"a scatter takes points [n, 2], and was given {[list(c.shape) for c in points.values()]}")
    with figure(4.2, 4.2) as (fig, axes):
        for name, cloud in points.items():
            axes.scatter(*cloud.T, s=5, color=BLUE if name == "samples" else GREY, alpha=0.5, linewidths=0, label=name)
        true = points.get("truth", points["samples"])
        low, high = true.min(0), true.max(0)
        margin = 0.15 * np.maximum(high - low, 1e-6)
        axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
        axes.set_aspect("equal", adjustable="box")
        axes.legend(frameon=False, markerscale=3, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2)
        return save(fig, path)


def densities(ours: Any, truth: Any, reach: float, path: Path) -> Path:
    """A model's density and the true one side by side, as heat maps with one colour scale, as a PNG.

    Args:
        ours, truth: log densities [n, n] in nats; rows go along x, columns along y; minus infinity where there is none.
        reach: the maps go from -reach to reach both ways.
        path: the file to write.

    Raises:
        ValueError: the two are no squares of one size, or a value is NaN.
    """
    maps = {name: np.exp(np.asarray(logs, float)) for name, logs in (("truth", truth), ("model", ours))}
    if len({m.shape for m in maps.values()}) != 1 or maps["truth"].ndim != 2 or len({*maps["truth"].shape}) != 1:
        raise ValueError(f"heat maps take two squares [n, n], and were given {[list(m.shape) for m in maps.values()]}")
    if any(np.isnan(m).any() for m in maps.values()):
        raise ValueError("a log density is NaN, so there is nothing to draw")
    top = float(maps["truth"][np.isfinite(maps["truth"])].max())
    with figure(7.2, 3.8) as (fig, axes):
        axes.remove()
        for (name, m), part in zip(maps.items(), fig.subplots(1, 2), strict=True):
            frame = (-reach, reach, -reach, reach)
            part.imshow(m.T, origin="lower", extent=frame, vmin=0, vmax=top, cmap="viridis", interpolation="nearest")
            part.set_title(name)
            part.grid(visible=False)
        return save(fig, path)


def _array(x: Any) -> np.ndarray:
    if hasattr(x, "detach"):  # a tensor, which may live on a GPU or be bfloat16
        x = x.detach().float().cpu().numpy()
    x = np.asarray(x, np.float32)
    if not np.isfinite(x).all():
        raise ValueError("the samples hold values that are not finite, so there is nothing to draw")
    return x


# ---- waves


def wav(waves: Any, rate: int, path: Path) -> Path:
    """Waves [n, T] in [-1, 1] one after the other, a tenth of a second apart, as a WAV file of 16 bits.

    Raises:
        ValueError: another shape, no wave, or a value that is not finite.
    """
    from scipy.io import wavfile

    x = _waves(waves)
    apart = np.pad(x, ((0, 0), (0, rate // 10))).ravel()[: -(rate // 10) or None]
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, np.round(np.clip(apart, -1, 1) * 32767).astype(np.int16))
    write(path, buffer.getvalue())
    return path


def spectrograms(waves: Any, rate: int, path: Path, *, most: int = 6, window: int = 128) -> Path:
    """The power in decibels of waves [n, T], over time in seconds and frequency in Hz, side by side, as a PNG.

    Args:
        most: waves shown.
        window: samples of Hann's window, which moves by a quarter of itself.

    Raises:
        ValueError: as `wav`.
    """
    from scipy.signal import spectrogram

    x = _waves(waves)[:most]
    size = min(window, x.shape[1])
    frequency, _, power = spectrogram(x, rate, window="hann", nperseg=size, noverlap=size * 3 // 4)
    decibels = 10 * np.log10(np.concatenate(list(power), 1) + 1e-10)
    with figure(7.2, 2.9) as (fig, axes):
        top = decibels.max()
        end = x.shape[1] / rate * len(x)
        shown = axes.imshow(
            decibels, origin="lower", aspect="auto", vmin=top - 60, vmax=top, cmap="cividis", extent=(0, end, 0, frequency[-1])
        )  # fmt: skip
        for i in range(1, len(x)):
            axes.axvline(i * x.shape[1] / rate, color="white", linewidth=1)
        axes.grid(False)
        axes.set(xlabel="seconds", ylabel="Hz")
        fig.colorbar(shown, label="dB")
        return save(fig, path)


def _waves(waves: Any) -> np.ndarray:
    x = _array(waves)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"waves are [n, T] with n and T at least 1, and were given as {list(x.shape)}")
    return x


# ---- curves


def learning_curve(run: Run) -> Path | None:
    """<run>/curve.png: the logged metric that is nearest to the claim's; None where nothing was logged."""
    from ray_jobs.recipe import loading
    from ray_jobs.results import store

    lines, name = list(run.metrics()), run.spec.recipe
    claim = loading.recipe(name).claim
    key = store.main_metric(dict.fromkeys(k for m in lines for k in m), claim.metric if claim else "")
    return curve(lines, run.path / "curve.png", key=key, claim=claim, title=name) if key else None


def curve(
    metrics: Sequence[Mapping[str, float]], path: Path, *, key: str, claim: Claim | None = None, title: str = ""
) -> Path:
    """A learning curve of one run, as a PNG.

    Args:
        metrics: the lines of metrics.jsonl.
        path: the file to write.
        key: the metric to draw.
        claim: drawn as a line where it is about `key`, or where that is a return that the claim is about.

    Raises:
        ValueError: no line holds a finite `key`.
    """
    points = [(m["step"], m[key]) for m in metrics if math.isfinite(m.get(key, math.nan))]
    if not points:
        raise ValueError(f"there is no finite {key} among the logged metrics")
    steps, values = np.asarray(points, float).T
    with figure(6.4, 3.4) as (fig, axes):
        draw(axes, steps, values[None], key, claim)
        axes.set_title(title)
        return save(fig, path)


def curves(result: Result, path: Path) -> Path:
    """The learning curves of a reproduction's seeds, as a PNG."""
    key, points = next(iter(result.curves.items()))
    with figure(6.4, 2.9) as (fig, axes):
        draw(axes, np.asarray(points["steps"], float), _with_gaps(points["values"]), key, result.claim)
        return save(fig, path)


def _with_gaps(values: Sequence[Sequence[float | None]]) -> np.ndarray:
    """[S, N], NaN where a seed has none."""
    return np.asarray([[math.nan if v is None else v for v in row] for row in values], float)


def curve_svg(
    steps: Sequence[float], values: Sequence[Sequence[float | None]], *, key: str, claim: Claim | None
) -> str:
    """Learning curves of several seeds [S, N] as an SVG element for a page: mean, 95% band, each seed thin.

    Its colours are the page's own (`currentColor`, --accent, --line), so it follows a dark theme.
    """
    y = _with_gaps(values)
    with figure(6.4, 2.9) as (fig, axes):
        draw(axes, np.asarray(steps, float), y, key, claim)
        buffer = io.StringIO()
        fig.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}, bbox_inches="tight"
        )
    return _for_page(buffer.getvalue(), f"{key} over training, {len(y)} seed{'' if len(y) == 1 else 's'}")


def draw(axes: Axes, steps: np.ndarray, values: np.ndarray, key: str, claim: Claim | None) -> None:
    """Mean and 95% band over seeds of `values` [S, N] at `steps` [N], each seed thin behind them."""
    from ray_jobs.results.statistics import band

    mean, low, high = band(values)
    if len(values) > 1:
        axes.fill_between(steps, low, high, color=BLUE, alpha=0.18, linewidth=0)
        axes.plot(steps, values.T, color=BLUE, alpha=0.3, linewidth=0.7)
    elif len(steps) > 150:
        axes.plot(steps, mean, color=BLUE, alpha=0.35, linewidth=0.8)
        mean = smooth(mean, len(mean) // 40)
    axes.plot(steps, mean, color=BLUE)
    known = values[np.isfinite(values)]
    if known.min() > 0 and mean[np.isfinite(mean)][-1] < mean[np.isfinite(mean)][0] / 10:  # a loss that falls far
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
    else:
        _within(axes, known)
    if claim is not None and key.rsplit("/", 1)[-1] == claim.metric:
        _bound(axes, claim)
    axes.set(xlabel="step", ylabel=key)
    axes.xaxis.set_major_formatter(_thousands)
    axes.margins(x=0.01)


def smooth(values: np.ndarray, half: int) -> np.ndarray:
    """The mean of each value and its `half` neighbours on either side, as many as there are."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    i = np.arange(len(values))
    first, last = np.maximum(i - half, 0), np.minimum(i + half + 1, len(values))
    return (total[last] - total[first]) / (last - first)


def _within(axes: Axes, known: np.ndarray) -> None:
    """Let what was measured set the height, not a band that a few seeds blow up."""
    low, high = known.min(), known.max()
    room = 0.08 * (high - low) or 0.5
    axes.set_ylim(low - room, high + room)


def _bound(axes: Axes, claim: Claim) -> None:
    bound = claim.at_least if claim.at_least is not None else claim.at_most
    low, high = axes.get_ylim()
    room = 0.06 * (high - low)
    if axes.get_yscale() == "log":
        axes.set_ylim(min(low, bound / 2), max(high, bound * 2))
    else:
        axes.set_ylim(min(low, bound - room), max(high, bound + room))
    axes.axhline(bound, color=ORANGE, linestyle=(0, (5, 3)), linewidth=1.3)
    sign = "≥" if claim.at_least is not None else "≤"
    axes.annotate(f"claim {sign} {short(bound)}", (0, bound), xycoords=("axes fraction", "data"), color=ORANGE,
                  xytext=(4, 3), textcoords="offset points", ha="left", va="bottom", fontsize=9)  # fmt: skip


def _thousands(x: float, _: int) -> str:
    if abs(x) >= 1e6:
        return f"{x / 1e6:g} M"
    return f"{x / 1e3:g} k" if abs(x) >= 1e4 else f"{x:g}"


@contextlib.contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of our style with one pair of axes, drawn without a display and without pyplot's global state."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(fig)
        yield fig, fig.add_subplot()


def plain_numbers(axis: Any) -> None:
    """Write the numbers of a logarithmic axis as text: matplotlib's own are formulas, which the style does not read."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def save(fig: Figure, path: Path) -> Path:
    """Write a figure as a PNG, aside and renamed."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=144, facecolor="white")
    write(path, buffer.getvalue())
    return path


def _for_page(svg: str, label: str) -> str:
    from html import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(style|metadata)[^>]*>.*?</\1>", "", svg, flags=re.S)  # its rules would reach the whole page
    svg = re.sub(r"font-family: [^;\"]*(; )?", "", svg)
    used = set(re.findall(r"#([\w.]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)  # names repeat from figure to figure
    for ours, pages in (
        (BLUE, "var(--accent)"),
        (ORANGE, "var(--claim)"),
        (INK, "currentColor"),
        (LINE, "var(--line)"),
    ):
        svg = svg.replace(ours.lower(), pages)
    shown = escape(label).replace("{", "{{").replace("}", "}}")
    head = f'<svg viewBox="{{}}" role="img" aria-label="{shown}">'
    return re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', lambda m: head.format(m[1]), svg, count=1, flags=re.S)
