"""Folders and files as people have them: hidden files, links, odd modes, holes. Each is read rightly, or one sentence says why not."""

import gc
import io
import os
import subprocess
import sys
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from datamodules.readers.audio import Audio
from datamodules.readers.files import split_of
from datamodules.readers.images import Images
from datamodules.readers.own import read
from datamodules.readers.tables import Vectors

datasets = pytest.importorskip("datasets")
PIL = pytest.importorskip("PIL.Image")


def save(path, picture=None, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or PIL.new("RGB", (8, 8), (200, 100, 50))).save(path, **how)


def images(folder, **options):
    return Images(**{"batch": 1, "name": "", "data_dir": str(folder), "size": 8, **options})


def trained(data):
    data.setup("fit")
    return data.source.size


def refused(sentence, call):
    with pytest.raises(ValueError, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


# ---- which files are of the set


def test_hidden_files_and_what_systems_leave_behind_are_no_images(tmp_path):
    for name in ("cat/0.png", "dog/1.png"):
        save(tmp_path / "train" / name)
        save(tmp_path / "test" / name)
    leftovers = (".ipynb_checkpoints/9.png", "cat/.ipynb_checkpoints/9.png", "__MACOSX/cat/9.png", "cat/@eaDir/9.png")
    for name in leftovers:
        save(tmp_path / "train" / name)
    (tmp_path / "train/cat/._0.png").write_bytes(b"not an image")
    (tmp_path / "train/cat/Thumbs.db").write_bytes(b"not an image")
    data = images(tmp_path, label="label", classes=2)
    assert trained(data) == 2 and len(data.test()["x"]) == 2
    assert sorted(int(data.seen()["label"][k]) for k in range(2)) == [0, 1]
    assert read(tmp_path).shape == (3, 32, 32)


def test_a_set_below_a_hidden_folder_is_read(tmp_path):
    save(tmp_path / ".cache" / "train" / "0.png")
    assert trained(images(tmp_path / ".cache")) == 1


@pytest.mark.parametrize(("path", "split"), [
    ("val/0.png", "valid"), ("Val/cat/0.png", "valid"), ("validation/0.png", "valid"), ("dev/0.png", "valid"),
    ("val2017/000.jpg", "valid"), ("train2017/000.jpg", "train"), ("data/validation-00000-of-00001.parquet", "valid"),
    ("eval/0.wav", "test"), ("testing/0.png", "test"), ("train/test_bench/0.png", "train"), ("train/dev_001.png", "train"),
    ("train/val/0.png", "train"), ("test_project/train/0.png", "train"), ("my_dev_0.wav", "valid"), ("test-clean/6/1.wav", "test"),
    ("devices/0.png", "train"), ("valley/0.png", "train"), ("evaluations/0.png", "train"),
])  # fmt: skip
def test_the_split_of_a_path(path, split):
    assert split_of(Path(path)) == split


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_a_validation_folder_is_held_out_whatever_it_is_called(name, tmp_path):
    for k in range(3):
        save(tmp_path / "train" / f"{k}.png")
    save(tmp_path / name / "0.png", PIL.new("RGB", (8, 8)))
    data = images(tmp_path)
    assert trained(data) == 3
    assert data.test()["x"].max() == -1
    assert data.validation() is None and data.part == "validation"  # it is needed as the held-out part
    save(tmp_path / "test" / "0.png", PIL.new("RGB", (8, 8), (255, 255, 255)))
    assert data.test()["x"].min() == 1 and data.part == "test"
    assert data.validation()["x"].max() == -1


def test_links_to_files_and_folders_are_followed_and_circles_end(tmp_path):
    store, folder = tmp_path / "store", tmp_path / "set mit Leer é"
    save(store / "blob", format="png")
    save(store / "more" / "1.png")
    folder.mkdir()
    (folder / "0.png").symlink_to(store / "blob")
    (folder / "train").symlink_to(store / "more", target_is_directory=True)
    (folder / "again").symlink_to(folder, target_is_directory=True)
    assert trained(images(folder)) == 2
    (folder / "gone.png").symlink_to(store / "nothing")
    refused("gone.png leads to no file", lambda: trained(images(folder)))


def test_labels_need_a_directory_for_each_class(tmp_path):
    save(tmp_path / "train" / "0.png")
    save(tmp_path / "test" / "0.png")
    refused("lies in no directory of a class", lambda: trained(images(tmp_path, label="label", classes=2)))
    save(tmp_path / "one" / "cat" / "0.png")
    refused(
        r"1 classes by directory \(cat\), not 2", lambda: trained(images(tmp_path / "one", label="label", classes=2))
    )
    assert trained(images(tmp_path / "one", label="label", classes=1)) == 1


def test_images_without_classes_are_unlabelled_for_a_known_set(tmp_path):
    save(tmp_path / "train" / "0.png")
    data = images(tmp_path, name="uoft-cs/cifar10")
    assert data.classes == 0 and trained(data) == 2 and set(data.seen()) == {"x"}


# ---- pictures


def test_photos_are_upright_for_all_eight_orientations(tmp_path):
    from PIL import ImageOps

    upright = PIL.new("RGB", (8, 8))
    upright.paste((255, 0, 0), (5, 0, 8, 3))
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    for orientation, how in back.items():
        exif = PIL.Exif()
        exif[0x0112] = orientation
        stored = upright if how is None else upright.transpose(how)
        file = tmp_path / str(orientation) / "train.png"
        save(file, stored, exif=exif)
        assert ImageOps.exif_transpose(PIL.open(file)).tobytes() == upright.tobytes()
        x = images(file.parent)
        trained(x)
        assert torch.equal(x.seen()["x"][0], torch.from_numpy(np.asarray(upright)).permute(2, 0, 1) / 127.5 - 1)


def transparent(mode):
    """The left half opaque and dark, the right half transparent, whatever colour is stored there."""
    whole = PIL.new("RGBA", (8, 8), (0, 0, 0, 255))
    whole.paste((9, 99, 199, 0), (4, 0, 8, 8))
    return whole.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_lie_on_white(mode, tmp_path):
    if mode == "P":
        picture = PIL.new("P", (8, 8), 0)
        picture.putpalette([0, 0, 0, 9, 99, 199])
        picture.paste(1, (4, 0, 8, 8))
        save(tmp_path / "train.png", picture, transparency=1)
    else:
        save(tmp_path / "train.png", transparent(mode))
    for channels in (3, 1) if mode == "LA" else (3,):
        data = images(tmp_path, channels=channels)
        trained(data)
        x = data.seen()["x"][0]
        assert (x[..., :4] == -1).all() and (x[..., 4:] == 1).all()


@pytest.mark.parametrize(
    ("mode", "suffix"), [("1", "png"), ("L", "png"), ("P", "gif"), ("CMYK", "jpg"), ("YCbCr", "jpg"), ("RGB", "tif")]
)
def test_other_modes_become_colours(mode, suffix, tmp_path):
    save(tmp_path / f"train.{suffix}", PIL.new("RGB", (8, 8), (255, 255, 255)).convert(mode))
    data = images(tmp_path)
    trained(data)
    assert (data.seen()["x"] > 0.98).all()


def test_pictures_that_cannot_be_used_are_named(tmp_path):
    red, blue = (PIL.new("RGB", (8, 8), c) for c in ((255, 0, 0), (0, 0, 255)))
    save(tmp_path / "a" / "moving.gif", red, save_all=True, append_images=[blue])
    refused("moving.gif is moving or has pages .2 pictures", lambda: trained(images(tmp_path / "a")))
    save(tmp_path / "b" / "deep.png", PIL.fromarray(np.full((8, 8), 60_000, np.uint16)))
    refused("deep.png has values of more than 8 bits", lambda: trained(images(tmp_path / "b")))
    save(tmp_path / "c" / "cut.jpg", PIL.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)))
    whole = (tmp_path / "c" / "cut.jpg").read_bytes()
    for size in (0, 20, len(whole) // 2):
        (tmp_path / "c" / "cut.jpg").write_bytes(whole[:size])
        refused("cut.jpg cannot be read", lambda: trained(images(tmp_path / "c")))


def parquet(folder, column, cells):
    folder.mkdir()
    datasets.Dataset.from_dict({column: cells}).to_parquet(str(folder / "train.parquet"))


def png():
    save_to = io.BytesIO()
    PIL.new("RGB", (8, 8)).save(save_to, "png")
    return {"bytes": save_to.getvalue(), "path": None}


@pytest.mark.parametrize("hole", [None, {"bytes": None, "path": None}, {"bytes": b"", "path": None}])
@pytest.mark.parametrize("streaming", [False, True])
def test_rows_without_an_image_are_named(hole, streaming, tmp_path):
    parquet(tmp_path / "t", "image", [png(), png(), hole])
    data = images(tmp_path / "t", batch=3, streaming=streaming)
    data.setup("fit")
    refused("There is no image in (row 2|a row) of", lambda: data.source.rows(0, 0, 3, 0, 3))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_one_sentence_whichever_process_meets_it(workers, tmp_path):
    parquet(tmp_path / "t", "image", [png(), None, png()])
    data = images(tmp_path / "t", batch=3, num_workers=workers)
    refused("There is no image in row 1 of", lambda: next(iter(data.train_dataloader())))


ENDS = """
import sys
from datamodules.readers.images import Images
data = Images(batch=3, name="", data_dir=sys.argv[1], size=8, num_workers=2)
data.setup("fit")
kept = iter(data.train_dataloader())
next(kept)
raise SystemExit(7)
"""


def test_a_training_that_ends_waits_for_no_loading_process(tmp_path):
    """They ignore a request to stop, by which Python ends the children of a process that ends."""
    parquet(tmp_path / "t", "image", [png()] * 30)
    ended = subprocess.run([sys.executable, "-c", ENDS, str(tmp_path / "t")], cwd=Path(__file__).parents[3], timeout=40)
    assert ended.returncode == 7


def test_loading_processes_end_with_batches_that_the_garbage_collector_finds(tmp_path):
    """A trainer and its loops refer to each other, so that nothing else ends their batches."""
    parquet(tmp_path / "t", "image", [png()] * 30)
    data, before = images(tmp_path / "t", batch=3, num_workers=2), set(active_children())
    for _ in range(4):  # in what order the collector closes what is in the cycle is chance
        cycle = [iter(data.train_dataloader())]
        next(cycle[0])
        cycle.append(cycle)
        started = set(active_children()) - before
        assert len(started) == 2
        del cycle
        gc.collect()
        assert not any(child.is_alive() for child in started)


def test_more_loading_processes_than_batches_and_a_batch_beyond_the_data(tmp_path):
    parquet(tmp_path / "t", "image", [png()] * 3)
    data = images(tmp_path / "t", batch=2, num_workers=4)
    batches = iter(data.train_dataloader())
    assert all(len(next(batches)["x"]) == 2 for _ in range(6))
    refused("only 3 examples", lambda: images(tmp_path / "t", batch=4, num_workers=2).train_dataloader())


# ---- waves


TONE = (np.sin(np.arange(400) / 10) * 20_000).astype(np.int16)


@pytest.mark.parametrize("samples", [
    TONE, np.stack([TONE, TONE], 1), (TONE // 256 + 128).astype(np.uint8), TONE.astype(np.int32) * 65_536,
    (TONE / 32_768).astype(np.float32), TONE / 32_768,
])  # fmt: skip
def test_waves_of_every_width_and_number_of_channels(samples, tmp_path):
    wavfile.write(tmp_path / "a.wav", 8000, samples)
    wavfile.write(tmp_path / "b.wav", 8000, samples[:0])  # no samples, no windows
    (tmp_path / "._a.wav").write_bytes(b"x")
    data = Audio(tmp_path, 0, 100)
    assert trained(data) == 4 and data.rate == 8000
    assert (data.seen()["x"].reshape(-1) - torch.from_numpy(TONE / 32_768)).abs().max() < 0.02


@pytest.mark.parametrize(("content", "sentence"), [
    (b"", "cannot be read"), (b"RIFF\0\0\0\0WAVEjunk", "cannot be read"), (b"RIFF", "cannot be read"),
    (bytes(range(99, 198)), "cannot be read"),
])  # fmt: skip
def test_broken_waves_are_named(content, sentence, tmp_path):
    (tmp_path / "a.wav").write_bytes(content)
    refused(f"a.wav {sentence}", lambda: Audio(tmp_path, 8000, 10).setup("fit"))


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_without_audio_are_named(streaming, tmp_path):
    parquet(tmp_path / "t", "audio", [{"bytes": None, "path": None}, None])
    refused(
        "There is no audio in (row 0|a row) of",
        lambda: Audio(tmp_path / "t", 8000, 10, streaming=streaming).setup("fit"),
    )


# ---- tables


ROWS = np.random.default_rng(0).normal(size=(30, 3))
BODY = "\n".join(",".join(f"{v:.4f}" for v in row) for row in ROWS)


@pytest.mark.parametrize(("text", "columns"), [
    ("\ufeffa,b,c\n" + BODY, ["a", "b", "c"]), ("\ufeff" + BODY, ["0", "1", "2"]), ("a\tb\tc\n" + BODY.replace(",", "\t"), ["a", "b", "c"]),
    ("a;b;c\n" + BODY.replace(",", ";"), ["a", "b", "c"]), ("a\n" + "\n".join(f"{v:.3f}" for v in ROWS[:, 0]), ["a"]),
])  # fmt: skip
def test_tables_with_a_mark_of_their_encoding_other_separators_and_one_column(text, columns, tmp_path):
    file = tmp_path / "mit Leer é.csv"
    file.write_text(text, encoding="utf-8")
    found = Vectors(file)
    assert found.names == columns and found.test()["x"].shape == (3, len(columns))


@pytest.mark.parametrize(("text", "sentence"), [
    ("", "cannot be read as a table"), ("a,b\n", "0 rows"), (BODY + "\nnan,1,2", "Row 30 .* not finite"),
    (BODY + "\ninf,1,2", "not finite"),
    (BODY + "\n,1,2", "empty"), (BODY + "\nred,1,2", "row 30 holds 'red'"), (BODY + "\n1,2", "Row 30 of the column '2'"),
    (BODY + "\n1,2,3,4", "cannot be read"), ("a,a,b\n" + BODY, "Two columns .* called 'a'"), (",a,b\n" + BODY, "Column 1 .* has no name"),
    ("a,b\n" + BODY, "more cells than its first line"), ("a|b|c\n" + BODY.replace(",", "|"), "neither comma"),
    (BODY.replace(",", " "), "neither comma"), ("a;b;c\n" + BODY.replace(",", ";").replace(".", ","), "decimals with a comma"),
    ("a,b\n" + "\n".join(f"{v},1" for v in ROWS[:, 0]), "'b' .* constant"),
    ("a\n" + "\n".join(f"{v}e307" for v in ROWS[:, 0]), "too large"),
    (BODY.replace("\n", ",\n"), "no name"),
])  # fmt: skip
def test_tables_that_cannot_be_used(text, sentence, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    refused(sentence, lambda: Vectors(tmp_path / "t.csv"))


class Mark:
    """An object whose unpickling makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_arrays_of_objects_are_never_unpickled_and_other_arrays_are_named(tmp_path):
    objects = np.array([Mark(tmp_path / "ran")] * 20, dtype=object)
    np.savez(tmp_path / "a.npz", x=objects)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    for name in ("a.npz", "a.npy"):
        refused("cannot be read as a table", lambda name=name: Vectors(tmp_path / name))
    assert not (tmp_path / "ran").exists()
    arrays = {
        "shape": (np.zeros((20, 2, 2)), "rows and columns are needed"), "flat": (ROWS[:, 0], "rows and columns are needed"),
        "complex": (ROWS + 1j, "complex"), "words": (np.array([["a", "b"]] * 20), "not numeric"), "none": (np.zeros((20, 0)), "no columns"),
        "times": (np.arange(40).astype("M8[s]").reshape(20, 2), "times"), "same": (np.ones((20, 2)), "constant"),
    }  # fmt: skip
    for name, (array, sentence) in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        refused(sentence, lambda name=name: Vectors(tmp_path / f"{name}.npy"))
