"""The YAML of `ray up`: Ray's own schema takes it, it is closed by default, and a user's words stay values."""

import pytest
import yaml

from cluster.job import LauncherError
from cluster.ray_clusters.yaml import Machines, config, refused, render

LOCAL = Machines("lab", "local", user="me", token="t", head="10.0.0.1", workers=("10.0.0.2", "10.0.0.3"))
AWS = Machines("lab", "aws", token="t", most=3)
GCP = Machines("lab", "gcp", token="t", project="p")
HOSTILE = "x; touch pwned $(touch pwned) `id` 'a' \"b\" {{c}} #d: [e]\n- f"

GOLDEN = """\
# ray up lab.yaml      ray down lab.yaml
# Between these machines, and from nowhere else, all TCP ports must be open; from outside port 22 alone.
cluster_name: lab
max_workers: 2
upscaling_speed: 1.0
idle_timeout_minutes: 10
provider:
  type: local
  head_ip: 10.0.0.1
  worker_ips:
  - 10.0.0.2
  - 10.0.0.3
auth:
  ssh_user: me
file_mounts:
  ~/.ray-token: t
initialization_commands: []
setup_commands:
- chmod 600 ~/.ray-token
head_start_ray_commands:
- ray stop
- export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray-token; ulimit -n 65536; ray start --head --port=6379 --dashboard-host=127.0.0.1
  --autoscaling-config=~/ray_bootstrap_config.yaml --disable-usage-stats
worker_start_ray_commands:
- ray stop
- export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray-token; ulimit -n 65536; ray start --address=$RAY_HEAD_IP:6379
  --disable-usage-stats
"""


def test_golden():
    assert render(LOCAL) == GOLDEN


@pytest.mark.parametrize("wanted", [LOCAL, AWS, GCP], ids=lambda m: m.provider)
def test_rays_own_schema_takes_it(wanted):
    util = pytest.importorskip("ray.autoscaler._private.util")
    read = yaml.safe_load(render(wanted))
    assert read == config(wanted)
    util.validate_config(util.prepare_config(read))


@pytest.mark.parametrize("wanted", [AWS, GCP], ids=lambda m: m.provider)
def test_the_cloud_is_closed_and_given_back(wanted):
    read = yaml.safe_load(text := render(wanted))
    assert read["provider"]["use_internal_ips"] is True
    assert read["idle_timeout_minutes"] > 0
    assert all(t.get("min_workers", 0) == 0 for t in read["available_node_types"].values())
    assert "0.0.0.0" not in text
    assert "Do not open" in text


@pytest.mark.parametrize("wanted", [LOCAL, AWS, GCP], ids=lambda m: m.provider)
def test_every_node_wants_the_token_and_no_dashboard_is_public(wanted):
    read = config(wanted)
    for command in (read["head_start_ray_commands"][-1], read["worker_start_ray_commands"][-1]):
        assert command.startswith("export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=")
    assert "--dashboard-host=127.0.0.1" in read["head_start_ray_commands"][-1]
    assert read["file_mounts"] == {"~/.ray-token": "t"}


@pytest.mark.parametrize("field", ["user", "key", "token", "machine", "region", "project"])
def test_hostile_words_stay_values_and_reach_no_command(field):
    wanted = Machines(**{"name": "lab", "provider": "gcp", "token": "t", "project": "p", field: HOSTILE})
    read = yaml.safe_load(render(wanted))
    assert read == config(wanted)
    commands = [c for key, value in read.items() if key.endswith("commands") for c in value]
    assert commands
    assert not any("pwned" in c for c in commands)


def test_all_that_is_missing_is_said_at_once():
    with pytest.raises(LauncherError, match=r"(?s)token.*--head.*--user"):
        render(Machines("lab", "local"))
    assert "cannot name a cluster" in refused(Machines("a b", "aws", token="t"))[0]
    assert "is no host" in refused(Machines("a", "local", user="u", token="t", head="a; b"))[0]
    assert "--project" in refused(Machines("a", "gcp", token="t"))[0]
