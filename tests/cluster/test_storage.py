"""Which file system a path lies on, from tables of mounts as Linux writes them."""

from pathlib import Path

import pytest

from cluster import storage

TABLE = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/home /home nfs4 rw 0 0
server:/a\\040b /shared\\040folder lustre rw 0 0
overlay /data overlay rw 0 0
late /data fuse.juicefs rw 0 0
/dev/sdb1 /home/local xfs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path):
    path = tmp_path / "mounts"
    path.write_text(TABLE)
    return path


@pytest.mark.parametrize(
    ("path", "kind", "shared"),
    [
        ("/", "ext4", False),
        ("/tmp/x/y", "tmpfs", False),
        ("/tmpx", "ext4", False),
        ("/home/me/x", "nfs4", True),
        ("/home/local/x", "xfs", False),  # a mount within another one
        ("/shared folder/x", "lustre", True),
        ("/data/x", "fuse.juicefs", True),  # the later mount hides the earlier one
    ],
)
def test_the_file_system_of_a_path(path, kind, shared, mounts, tmp_path):
    assert storage.kind(Path(path), mounts) == kind
    assert storage.is_shared(Path(path), mounts) is shared
    output = storage.warning(Path(path), "--out", mounts)
    assert (output == "") is shared
    assert shared or (f"--out {path} lies on {kind}" in output and "shared storage" in output)


def test_a_link_counts_where_it_leads(mounts, tmp_path):
    (tmp_path / "link").symlink_to("/home/me")
    assert storage.is_shared(tmp_path / "link/x", mounts)


def test_nothing_is_said_where_the_machine_does_not_tell(tmp_path):
    assert storage.kind(tmp_path, tmp_path / "none") == ""
    assert storage.warning(tmp_path, "--out", tmp_path / "none") == ""
    assert not storage.is_shared(tmp_path, tmp_path / "none")
