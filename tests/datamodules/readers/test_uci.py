"""MAF's tables from a small archive of the same layout, each against its preparation written out slowly."""

import io
import pickle
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules.readers import pickled_table
from datamodules.readers.uci import UCI
from tests.ray_jobs.envs.payloads import payloads

N = 200


def raw():
    """Files of the archive, by name: bytes."""
    rng = np.random.default_rng(0)
    files = {}

    def save(name, rows):
        np.save(file := io.BytesIO(), rows)
        files[name] = file.getvalue()

    save("power/data.npy", rng.normal(5, 3, (N, 8)))
    save("miniboone/data.npy", rng.normal(-1, 7, (N, 43)))
    sensors = rng.normal(2, 4, (N, 8))
    twins = sensors[:, [0, 3]] * 1.5 + rng.normal(0, 0.01, (N, 2))
    columns = ["Time", "Meth", "Eth", *(f"s{i}" for i in range(10))]
    frame = pd.DataFrame(np.hstack([rng.normal(size=(N, 3)), sensors, twins]), columns=columns)
    frame.to_pickle(file := io.BytesIO())
    files["gas/ethylene_CO.pickle"] = file.getvalue()
    for part, more in (("train", 0), ("test", 1)):
        numbers = rng.normal(1, 2, (N, 27 + more))
        numbers[:, [2, 5, 8, 11, 14, 17]] = rng.integers(0, 3, (N, 6))
        rows = np.hstack([rng.integers(0, 2, (N, 1)), numbers])
        names = ["# label", *(f"f{i}" for i in range(27)), "mass"][: rows.shape[1]]
        files[f"hepmass/1000_{part}.csv"] = pd.DataFrame(rows, columns=names).to_csv(index=False).encode()
    return files


FILES = raw()


def pack(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"data/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("uci")
    pack(path / "data.tar.gz", FILES)
    return path


def slow_tenths(rows):
    n_test = int(0.1 * len(rows))
    n_validation = int(0.1 * (len(rows) - n_test))
    rest = list(rows[:-n_test])
    return np.array(rest[:-n_validation]), np.array(rest[-n_validation:]), rows[-n_test:]


def slow_scaled(parts):
    both = np.array([*parts[0], *parts[1]])
    mean = both.sum(0) / len(both)
    std = np.sqrt(((both - mean) ** 2).sum(0) / len(both))
    return [(p - mean) / std for p in parts]


def slow_power():
    rng = np.random.RandomState(42)
    rows = np.load(io.BytesIO(FILES["power/data.npy"]))
    rng.shuffle(rows)
    kept = rows[:, [0, 2, 4, 5, 6, 7]].copy()
    kept[:, 1] += 0.01 * rng.rand(N)
    kept[:, 0] += 0.001 * rng.rand(N)
    kept[:, 2:5] += rng.rand(N, 3)
    return slow_scaled(slow_tenths(kept))


def slow_gas():
    frame = pd.read_pickle(io.BytesIO(FILES["gas/ethylene_CO.pickle"])).drop(columns=["Meth", "Eth", "Time"])
    while True:
        alike = (frame.corr() > 0.98).sum(axis=1)
        if (alike <= 1).all():
            break
        frame = frame.drop(columns=next(name for name in frame.columns if alike[name] > 1))
    return slow_tenths(((frame - frame.mean()) / frame.std()).to_numpy())


def slow_hepmass():
    train, test = (pd.read_csv(io.BytesIO(FILES[f"hepmass/1000_{p}.csv"]), index_col=False) for p in ("train", "test"))
    train, test = train[train["# label"] == 1], test[test["# label"] == 1].drop(columns="mass")
    train, test = train.drop(columns="# label"), test.drop(columns="# label")
    mean, std = train.mean(), train.std()
    train, test = (train - mean) / std, (test - mean) / std
    keep = [name for name in train.columns if min(Counter(train[name]).items())[1] <= 5]
    rows, n = train[keep].to_numpy(), int(len(train) * 0.1)
    return rows[:-n], rows[-n:], test[keep].to_numpy()


def slow_miniboone():
    return slow_scaled(slow_tenths(np.load(io.BytesIO(FILES["miniboone/data.npy"]))))


@pytest.mark.parametrize("name", ["power", "gas", "hepmass", "miniboone"])
def test_each_is_prepared_as_in_the_paper(name, folder):
    data = UCI(name, folder, batch=16)
    shape = data.shape
    data.setup("fit")
    for got, want in zip(data.rows, globals()[f"slow_{name}"](), strict=True):
        assert got.dtype == np.float32
        assert got.shape[1:] == shape
        np.testing.assert_allclose(got, want.astype(np.float32), rtol=1e-5, atol=1e-6)


def test_bsds300_is_taken_as_it_is(tmp_path):
    h5py = pytest.importorskip("h5py")
    rows = np.random.default_rng(0).normal(0, 0.1, (30, 63)).astype(np.float32)
    (tmp_path / "BSDS300").mkdir()
    with h5py.File(tmp_path / "BSDS300" / "BSDS300.hdf5", "w") as file:
        for part, some in zip(("train", "validation", "test"), (rows[:20], rows[20:25], rows[25:]), strict=True):
            file[part] = some
    data = UCI("BSDS300", tmp_path, batch=4)
    np.testing.assert_array_equal(data.test()["x"], rows[25:])
    np.testing.assert_array_equal(data.validation(2)["x"], rows[20:22])


def test_tarball_its_folder_and_the_unpacked_folder_are_the_same(folder, tmp_path):
    for name, content in FILES.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    want = UCI("miniboone", folder, batch=4).test()["x"]
    for place in (folder / "data.tar.gz", tmp_path, tmp_path / "data"):
        assert torch.equal(UCI("miniboone", str(place), batch=4).test()["x"], want)


def test_batches_are_rows_of_the_training_part(folder):
    data = UCI("power", folder, batch=18)
    stream = iter(data.train_dataloader())
    seen = torch.cat([next(stream)["x"] for _ in range(9)])  # one epoch: 162 rows
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, data.rows.train.tolist()))


def refused(sentence, name, folder):
    with pytest.raises(ValueError, match=sentence) as error:
        UCI(name, folder, batch=4).setup("fit")
    assert "\n" not in str(error.value)


def test_what_cannot_be_read_is_refused(folder, tmp_path):
    refused("allowed: power, gas", "powers", folder)
    refused("zenodo", "power", "")
    refused("There is no .*nowhere", "power", tmp_path / "nowhere")
    refused("neither power/data.npy nor data.tar.gz", "power", tmp_path)
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes((folder / "data.tar.gz").read_bytes()[:3000])
    refused("not a whole tarball", "miniboone", cut)
    pack(tmp_path / "few.tar.gz", {"power/data.npy": FILES["power/data.npy"]})
    refused("holds no gas/ethylene_CO.pickle", "gas", tmp_path / "few.tar.gz")


@pytest.mark.parametrize(
    ("content", "sentence"), [(np.zeros((20, 5)), "not of 43 columns"), (np.full((20, 43), np.nan), "NaN")]
)
def test_wrong_numbers_are_refused(content, sentence, tmp_path):
    (tmp_path / "miniboone").mkdir()
    np.save(tmp_path / "miniboone" / "data.npy", content)
    refused(sentence, "miniboone", tmp_path)


def test_corrupt_members_are_named(tmp_path):
    for name, content in (
        ("power/data.npy", b"no"),
        ("gas/ethylene_CO.pickle", b"no"),
        ("hepmass/1000_train.csv", b""),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(content)
        refused(name, name.split("/")[0], tmp_path)


FRAME = pd.DataFrame({"Time": [1.5, 2.5, 3.5], "x": [1, 2, 3], "y": np.float32([4, 5, 6]), "z": [7.0, 8.0, 9.0]})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        FRAME[::-1],
        FRAME.iloc[:, ::2],
        FRAME.iloc[:, [3, 0]],
        FRAME.set_index("z", drop=False),
        FRAME.set_axis(np.array(list("abcd"), object), axis=1),
        FRAME.set_axis(range(4), axis=1),
    ],
)
def test_a_pickled_table_is_read_without_pandas(frame, protocol):
    names, values = pickled_table.read(io.BytesIO(pickle.dumps(frame, protocol)))
    assert names == [str(column) for column in frame.columns]
    np.testing.assert_array_equal(values, frame.to_numpy(np.float64))


def test_a_table_of_old_pandas_and_python_2_is_read():
    """As pandas 0.14 to 1.2 wrote it: the blocks are in a state that names a version."""

    def array(rows):
        return b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\nt" + b"R" + state(rows)

    def state(rows):
        kind = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
        data = pickle.SHORT_BINSTRING + bytes([rows.nbytes]) + rows.tobytes()
        return b"(I1\n(" + b"".join(b"I%d\n" % n for n in rows.shape) + b"t" + kind + b"I00\n" + data + b"tb"

    names = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n"
    names += b"(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntbI00\n(lS'Time'\naS'x'\natb"
    rows = np.array([[1.5, 2.5, 3.5], [4.0, 5.0, 6.0]])
    axis = b"cpandas.indexes.base\n_new_Index\n(cpandas.indexes.base\nIndex\n(dS'data'\n" + names + b"sS'name'\nNstR"
    index = b"cpandas.indexes.base\n_new_Index\n(cpandas.indexes.range\nRangeIndex\n(dS'start'\nI0\nsS'stop'\nI3\nsS'step'\nI1\nstR"
    block = b"(dS'values'\n" + array(rows) + b"sS'mgr_locs'\nc__builtin__\nslice\n(I0\nI2\nI1\ntRs"
    newer = b"(dS'0.14.1'\n(dS'axes'\n(l" + axis + b"a" + index + b"asS'blocks'\n(l" + block + b"ass"
    manager = b"cpandas.core.internals\nBlockManager\n)\x81((l(l(l" + newer + b"tb"
    made = b"\x80\x02cpandas.core.frame\nDataFrame\n)\x81(dS'_data'\n" + manager + b"sb."
    found, values = pickled_table.read(io.BytesIO(made))
    assert found == ["Time", "x"]
    np.testing.assert_array_equal(values, rows.T)


with tempfile.TemporaryDirectory() as somewhere:
    NAMES = sorted(payloads(Path(somewhere) / "mark", Path(somewhere)))


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_that_runs_a_program_is_refused(name, tmp_path, monkeypatch):
    mark, modules = tmp_path / "mark", tmp_path / "modules"
    modules.mkdir()
    monkeypatch.syspath_prepend(modules)
    (tmp_path / "gas").mkdir()
    evil = payloads(mark, modules)[name]
    for content in (evil, b"\x80\x04(" + evil[:-1].removeprefix(b"\x80\x04") + b"t."):
        (tmp_path / "gas/ethylene_CO.pickle").write_bytes(content)
        refused("gas/ethylene_CO.pickle of .* cannot be read", "gas", tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_pickle_is_one_sentence(seed, tmp_path):
    rng = np.random.default_rng(seed)
    made = bytearray(FILES["gas/ethylene_CO.pickle"])
    at = rng.integers(300) if seed % 2 else rng.integers(len(made) - 600, len(made))
    made[at] ^= 1 << rng.integers(8)
    try:
        pickled_table.read(io.BytesIO(bytes(made)))
    except ValueError as error:
        assert str(error)  # noqa: PT017 - other damage only changes a value
