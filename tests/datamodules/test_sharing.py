"""Every example comes once an epoch over all workers, and a resumed run continues with the right ones: by index and streamed."""

import io
import json
from itertools import chain
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from scipy.io import wavfile

from datamodules.readers.audio import Audio
from datamodules.readers.images import Images
from datamodules.readers.streaming import Streamed, mixed
from datamodules.readers.uci import UCI

datasets = pytest.importorskip("datasets")
PIL = pytest.importorskip("PIL.Image")

SIZE, BATCH = 48, 6
STYLES = {"by index": {}, "in memory": {"in_memory": True}, "streamed": {"streaming": True, "buffer": 20}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """48 images in three files, whose label is their row."""
    path = tmp_path_factory.mktemp("images")
    for part in range(3):
        rows = {"img": [], "label": list(range(16 * part, 16 * part + 16))}
        for k in rows["label"]:
            PIL.new("RGB", (4, 4), (k, k, k)).save(file := io.BytesIO(), "png")
            rows["img"].append({"bytes": file.getvalue(), "path": None})
        datasets.Dataset.from_dict(rows).to_parquet(str(path / f"train-{part}.parquet"))
    return path


def images(folder, style, rank=0, world=1, *, start=0, seed=0, num_workers=0, accumulate=1):
    data = Images(
        batch=BATCH, data_dir=str(folder), size=4, classes=SIZE, flip=False, num_workers=num_workers, **STYLES[style]
    )
    data.seed, data.start, data.accumulate = seed, start, accumulate
    data.trainer = SimpleNamespace(world_size=world, global_rank=rank)
    return data


def labels(data, n):
    """Of the next n micro-batches of one worker."""
    stream = iter(data.train_dataloader())
    return [next(stream)["label"].tolist() for _ in range(n)]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_example_comes_once_an_epoch_over_all_workers(style, world, folder):
    steps = SIZE // BATCH
    shares = [labels(images(folder, style, rank, world), 2 * steps) for rank in range(world)]
    alone = labels(images(folder, style), 2 * steps)
    for step in range(2 * steps):
        assert list(chain.from_iterable(share[step] for share in shares)) == alone[step]
    for epoch in range(2):
        seen = [label for share in shares for step in share[epoch * steps : (epoch + 1) * steps] for label in step]
        assert sorted(seen) == list(range(SIZE))
    assert alone[:steps] != alone[steps:]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("start", "num_workers"), [(5, 0), (13, 2)])
def test_a_resumed_run_continues_the_very_examples(style, start, num_workers, folder):
    through = labels(images(folder, style, 1, 2, accumulate=3), start + 6)
    later = labels(images(folder, style, 1, 2, accumulate=3, start=start, num_workers=num_workers), 6)
    assert later == through[start:]


@pytest.mark.parametrize("style", STYLES)
def test_seeds_give_other_orders(style, folder):
    assert labels(images(folder, style), 3) != labels(images(folder, style, seed=1), 3)


def test_a_stream_is_mixed_over_its_files(folder):
    """With a buffer of 20 of 48 rows the first batch is never the first six rows of a file."""
    for seed in range(5):
        first = labels(images(folder, "streamed", seed=seed), 1)[0]
        assert first != list(range(min(first), min(first) + BATCH))


@pytest.mark.parametrize("buffer", [1, 7, 100])
def test_mixing_keeps_every_row_and_looks_no_further_than_its_buffer(buffer):
    got = list(mixed(iter(range(60)), buffer, np.random.default_rng(0)))
    assert sorted(got) == list(range(60))
    assert all(row < place + buffer for place, row in enumerate(got))


def counted(size, log):
    def open_at(seed, epoch):
        log.append((seed, epoch))
        return ({"row": int(i)} for i in np.random.default_rng((seed, epoch)).permutation(size))

    return Streamed(size, open_at, lambda rows, epoch: {"x": torch.tensor([r["row"] for r in rows])})


def test_a_stream_is_opened_once_an_epoch_and_can_go_back():
    log = []
    source = counted(50, log)
    rows = [source.rows(0, step, 8, 2, 4)["x"].tolist() for step in range(12)]
    assert log == [(0, 0), (0, 1)]
    assert source.rows(0, 3, 8, 2, 4)["x"].tolist() == rows[3]
    assert log[2:] == [(0, 0)]
    with pytest.raises(ValueError, match="only 50 rows"):
        source.rows(0, 0, 51, 0, 51)


def test_a_stream_that_is_too_short_is_refused():
    source = Streamed(9, lambda seed, epoch: iter([{}] * 5), lambda rows, epoch: {})
    with pytest.raises(ValueError, match="ended before row 6"):
        source.rows(0, 1, 3, 0, 3)


def others(name, folder):
    """Audio and a table whose examples can be told from each other: 24 of them."""
    if name == "audio":
        wavfile.write(folder / "all.wav", 8000, np.arange(-12_000, 12_000, 100, dtype=np.int16))
        return Audio(folder, 8000, 10, batch=BATCH)
    if name == "streamed audio":
        whole = [np.arange(k, k + 6000, 100, dtype=np.int16) for k in range(-12_000, 12_000, 6000)]
        for part, samples in enumerate(whole):
            wavfile.write(file := io.BytesIO(), 8000, samples)
            rows = {"audio": [{"bytes": file.getvalue(), "path": None}]}
            datasets.Dataset.from_dict(rows).to_parquet(str(folder / f"train-{part}.parquet"))
        return Audio(folder, 8000, 10, batch=BATCH, streaming=True, buffer=8)
    (folder / "miniboone").mkdir(exist_ok=True)
    np.save(folder / "miniboone" / "data.npy", np.random.default_rng(0).normal(size=(30, 43)))
    return UCI("miniboone", folder, batch=BATCH)


@pytest.mark.parametrize("name", ["audio", "streamed audio", "uci"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_audio_and_tables_are_shared_out_alike(name, world, tmp_path):
    seen = []
    for rank in range(world):
        data = others(name, tmp_path)
        data.trainer = SimpleNamespace(world_size=world, global_rank=rank)
        stream = iter(data.train_dataloader())
        seen += [tuple(x.tolist()) for _ in range(4) for x in next(stream)["x"]]
    assert len(set(seen)) == len(seen) == 24


@pytest.mark.parametrize("name", ["audio", "streamed audio"])
def test_resumed_audio_continues_the_very_windows(name, tmp_path):
    through = iter(others(name, tmp_path).train_dataloader())
    ten = [next(through)["code"] for _ in range(10)]
    data = others(name, tmp_path)
    data.start = 7
    later = iter(data.train_dataloader())
    assert all(torch.equal(next(later)["code"], code) for code in ten[7:])


class Listens(L.LightningModule):
    """Writes down which labels it was given."""

    def __init__(self, folder):
        super().__init__()
        self.w, self.folder, self.seen = torch.nn.Parameter(torch.zeros(())), folder, []

    def training_step(self, batch, _):
        self.seen += batch["label"].tolist()
        return self.w * batch["x"].mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_train_end(self):
        (self.folder / f"{self.trainer.global_rank}.json").write_text(json.dumps(self.seen))


def test_two_processes_under_lightning_share_a_stream(folder, tmp_path):
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    data = images(folder, "streamed")
    data.trainer = None
    placed = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork", "use_distributed_sampler": False}
    L.Trainer(max_steps=SIZE // BATCH, max_epochs=-1, **placed, **quiet).fit(Listens(tmp_path), data)
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [len(s) for s in seen] == [SIZE // 2] * 2
    assert sorted(chain.from_iterable(seen)) == list(range(SIZE))
