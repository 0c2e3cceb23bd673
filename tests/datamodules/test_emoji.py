"""Emoji of two packages: what becomes of images, names and keywords, which are held out, and one sentence for every bad package."""

import dataclasses
import hashlib
import io
import json
import tarfile

import pytest
import torch

from datamodules import emoji
from datamodules.emoji import Emoji, family
from datamodules.packages import Package, fetched
from datamodules.readers.captioned import read

pytest.importorskip("datasets")
PIL = pytest.importorskip("PIL.Image")

KEPT, HELD = "1F44B", "1F44C"
"""Codes of two bases; the family of the second is held out."""
COLOURS = {
    KEPT: (200, 0, 0),
    f"{KEPT}-1F3FB": (0, 200, 0),
    HELD: (0, 0, 200),
    f"{HELD}-1F3FF": (200, 200, 0),
    "0023-FE0F": (9, 9, 9),
}
IMAGES = [
    {"unified": KEPT, "sheet_x": 0, "sheet_y": 0, "has_img_twitter": True, "skin_variations": {
        "1F3FB": {"unified": f"{KEPT}-1F3FB", "sheet_x": 0, "sheet_y": 1, "has_img_twitter": True}}},
    {"unified": HELD, "sheet_x": 1, "sheet_y": 0, "has_img_twitter": True, "skin_variations": {
        "1F3FF": {"unified": f"{HELD}-1F3FF", "sheet_x": 1, "sheet_y": 1, "has_img_twitter": True}}},
    {"unified": "0023-FE0F", "sheet_x": 2, "sheet_y": 0, "has_img_twitter": False},
]  # fmt: skip
NAMES = [
    {"hexcode": KEPT, "label": "waving hand", "tags": ["bye", "hello"], "group": 1, "skins": [
        {"hexcode": f"{KEPT}-1F3FB", "label": "waving hand: light skin tone"}]},
    {"hexcode": HELD, "label": "OK hand", "group": 1, "skins": [{"hexcode": f"{HELD}-1F3FF", "label": "OK hand: dark skin tone"}]},
    {"hexcode": "0023", "label": "hash", "group": 8},
    {"hexcode": "1F1E6", "label": "regional indicator A"},
]  # fmt: skip


def sheet(size=198):
    """Squares of one colour, of which the upper half is transparent, with a border."""
    whole = PIL.new("RGBA", (size, size), (0, 0, 0, 0))
    for entry in IMAGES:
        for one in (entry, *entry.get("skin_variations", {}).values()):
            left, top = one["sheet_x"] * 66 + 1, one["sheet_y"] * 66 + 1
            whole.paste((*COLOURS[one["unified"]], 255), (left, top + 32, left + 64, top + 64))
    file = io.BytesIO()
    whole.save(file, "png")
    return file.getvalue()


def package(folder, name, files):
    """A package's file with these members, where it would lie when it is fetched."""
    made = Package(name, "1.0.0", "")
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / made.file, "w:gz") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(f"package/{path}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return dataclasses.replace(made, sha256=hashlib.sha256((folder / made.file).read_bytes()).hexdigest())


def packages(store, **more):
    """Both packages; `more` replaces the content of a file by its last name without the ending."""
    files = {"emoji": json.dumps(IMAGES).encode(), "64": sheet(), "data": json.dumps(NAMES).encode()} | more
    pictures = {"emoji.json": files["emoji"], "img/twitter/sheets-clean/64.png": files["64"]}
    return {
        "images": package(store, "images", {k: v for k, v in pictures.items() if v}),
        "names": package(store, "names", {"en/data.json": files["data"]}),
    }


@pytest.fixture()
def made(tmp_path):
    """The folder that is made of the small packages."""
    emoji.make(tmp_path / "emoji", **packages(tmp_path / ".packages"))
    return tmp_path / "emoji"


def test_images_lie_on_white_with_their_names_and_keywords_and_families_are_not_divided(made):
    data = read(str(made / "32"), size=32)
    data.encode = lambda texts: torch.tensor([[len(text)] for text in texts])
    data.setup("fit")
    seen, held = data.texts(), data.texts("test")
    assert sorted(seen) == [["waving hand", "bye, hello"], ["waving hand: light skin tone"]]
    assert sorted(held) == [["OK hand"], ["OK hand: dark skin tone"]]
    assert data.source.size == 3  # both captions of one image
    first = data.test(2)["x"][held.index(["OK hand"])]
    assert (first[:, :12] == 1).all() and first[:, 20:].mean((1, 2)).tolist() == pytest.approx(
        [-1, -1, 200 / 127.5 - 1]
    )
    assert (
        emoji.folder(48, place=made) == made / "64"
        and read(str(made / "64"), size=64).images.test()["x"].shape[2] == 64
    )
    assert (made / "ABOUT.txt").read_text().startswith("4 images in 2 families, of which 2 images are held out.\n")
    assert sorted(p.name for p in made.parent.iterdir()) == [".packages", "emoji"] and not list(
        (made.parent / ".packages").iterdir()
    )


def test_the_word_emoji_means_those_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = tmp_path / "reprise" / f"emoji-{emoji.IMAGES.version}-{emoji.NAMES.version}"
    place.parent.mkdir()
    emoji.make(place, **packages(place.parent / ".packages"))
    assert len(read("emoji").texts()) == 2 and read("emoji", size=64).shape == (3, 64, 64)


def test_emoji_that_look_alike_are_one_family():
    """Of one gesture: tones, women, men and directions; and the professions of adults."""
    runs = ["1F3C3", "1F3C3-1F3FB", "1F3C3-200D-2640", "1F3C3-1F3FF-200D-2642-200D-27A1"]
    assert {family(code) for code in runs} == {"1F3C3"}
    assert family("1F468-1F3FE-200D-1F692") == family("1F469-200D-1F692") == "1F9D1-200D-1F692" != family("1F9D1")
    sides = {Emoji(code, (0, 0), ("run",), 1).held_out for code in runs}
    assert len(sides) == 1 and family("1F1E9-1F1EA") == "1F1E9-1F1EA"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"64": b""}, r"images-1\.0\.0\.tgz holds no file package/img/twitter/sheets-clean/64\.png: it is another version"),
        ({"64": b"no picture"}, r"sheet of images in images-1\.0\.0\.tgz cannot be read"),
        ({"64": sheet(130)}, "has 130 x 130 pixels, but its emoji need 132 x 132"),
        ({"emoji": b"{"}, r"do not hold lists of emoji as expected .JSONDecodeError"),
        ({"emoji": b'[{"unified": "1F44B"}]'}, "do not hold lists of emoji as expected .KeyError: 'has_img_twitter'"),
        ({"data": b'[{"hexcode": "23", "label": "x", "group": 1}]'}, "No emoji of images-1.0.0.tgz has a name in names-1.0.0.tgz"),
    ],
)  # fmt: skip
def test_a_package_that_holds_something_else_is_named_and_nothing_is_left(more, message, tmp_path):
    with pytest.raises(ValueError, match=message) as refused:
        emoji.make(tmp_path / "emoji", **packages(tmp_path / ".packages", **more))
    assert "\n" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == [".packages"]
    assert len(list((tmp_path / ".packages").iterdir())) == 2  # another attempt does not fetch them again


def test_what_cannot_be_fetched_or_is_another_file_is_one_sentence(tmp_path):
    known = package(tmp_path, "images", {"emoji.json": b"[]"})
    store, file = tmp_path / "store", tmp_path / known.file

    def fetch(*client, of=known):
        return fetched(of, store, client=client)

    absent = rf"by no-such-client .it is not installed; npm comes with Node.js.: check the network, or copy its file {known.file} into "
    with pytest.raises(ValueError, match=absent):
        fetch("no-such-client")
    with pytest.raises(ValueError, match=r"cannot be fetched by sh .npm error network down.: check the network"):
        fetch("sh", "-c", "echo npm error network down >&2; echo see the log >&2; exit 1")
    with pytest.raises(ValueError, match="sh left 0 files for the package images, not one"):
        fetch("sh", "-c", "true")
    other = dataclasses.replace(known, sha256="0" * 64)
    with pytest.raises(
        ValueError,
        match=rf"is not the known package images 1\.0\.0 and is not used: its SHA-256 is {known.sha256}, not 0",
    ):
        fetch("sh", "-c", f"cp {file} .", of=other)
    assert list(store.iterdir()) == []
    assert fetch("sh", "-c", f"cp {file} .") == store / known.file
    assert fetch("no-such-client") == store / known.file  # it is there
    (store / known.file).write_bytes(b"half")
    with pytest.raises(ValueError, match="is not the known package"):
        fetch("no-such-client")
    with pytest.raises(ValueError, match="cannot be read"):
        emoji.member(store / known.file, "package/emoji.json")


def test_a_folder_that_exists_is_not_written_into(made):
    with pytest.raises(ValueError, match="exists: name one that does not"):
        emoji.make(made, **packages(made.parent / ".packages"))


def test_the_real_set_is_whole(emoji_32):
    """3,786 images, of which 527 are held out, and no family on both sides."""
    import pyarrow.parquet

    rows = {split: pyarrow.parquet.read_table(emoji_32 / f"{split}.parquet").to_pydict() for split in ("train", "test")}
    families = {split: {family(code) for code in found["code"]} for split, found in rows.items()}
    assert [len(found["code"]) for found in rows.values()] == [3259, 527]
    assert len(families["train"] | families["test"]) == 1719 and not families["train"] & families["test"]
    names = {
        code: caption for found in rows.values() for code, caption in zip(found["code"], found["caption"], strict=True)
    }
    assert names["1F600"][0] == "grinning face" and "happy" in names["1F600"][1]
    assert names["1F44B-1F3FB"] == ["waving hand: light skin tone"]
    data = read(str(emoji_32), size=32)
    x = data.images.test(64)["x"]
    assert x.shape == (64, 3, 32, 32) and x[:, :, 0, 0].mean() > 0.7  # corners are mostly white
