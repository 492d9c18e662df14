"""A cluster for tests starts, loses roles, and leaves nothing behind."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.measuring import wait_until
from scripts.milvus_cluster import COORDINATORS, MilvusCluster
from scripts.servers import CantStart
from serve_app.milvus.client import connect
from tests.contract.engines import SHARDED, Engine, Index


@pytest.fixture(scope="module")
def index(cluster: Engine) -> Index:
    return cluster.make_index("cluster")


@pytest.fixture
def whole(milvus_cluster: MilvusCluster) -> Iterator[MilvusCluster]:
    """Give the cluster, and bring back what a test took from it."""
    yield milvus_cluster
    for name, pid in milvus_cluster.status().items():
        if pid is None:
            milvus_cluster.start_role(name)


def processes_of(workdir: Path) -> list[int]:
    """Return the processes that were started in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").readlink() == workdir:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_an_index_is_sharded_and_replicated(milvus_cluster: MilvusCluster, index: Index) -> None:
    replicas = index.client.describe_replica(index.alias)
    assert sorted(len(replica.group_nodes) for replica in replicas) == [1, 1]
    assert {len(replica.shards) for replica in replicas} == {2}
    serving = milvus_cluster.serving()
    assert {serving[node] for replica in replicas for node in replica.group_nodes} == {"querynode1", "querynode2"}


def test_every_proxy_serves(milvus_cluster: MilvusCluster, index: Index) -> None:
    for uri in milvus_cluster.uris:
        client = connect(SHARDED, uri)
        assert client.has_collection(index.alias)
        client.close()


def test_the_active_coordinators_are_known(milvus_cluster: MilvusCluster) -> None:
    assert [milvus_cluster.active(kind) for kind in COORDINATORS] == [f"{kind}1" for kind in COORDINATORS]


def test_a_killed_role_comes_back(whole: MilvusCluster) -> None:
    before = whole.status()["indexnode1"]
    whole.kill("indexnode1")
    assert whole.status()["indexnode1"] is None
    whole.start_role("indexnode1")
    assert whole.status()["indexnode1"] not in (None, before)


def test_the_mock_of_a_broker_does_not_come_back(milvus_cluster: MilvusCluster) -> None:
    with pytest.raises(CantStart, match="can't be started again"):
        milvus_cluster.start_role("broker")


def test_a_second_cluster_is_refused(milvus_cluster: MilvusCluster, tmp_path: Path) -> None:
    with pytest.raises(CantStart, match="one cluster per network namespace"):
        MilvusCluster(tmp_path).start()
    assert processes_of(tmp_path) == []
    assert None not in milvus_cluster.status().values()


@pytest.mark.parametrize("missing", ["etcd", "setpriv"])
def test_a_start_without_its_programs_leaves_nothing_behind(tmp_path: Path, missing: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in {"etcd", "setpriv"} - {missing}:
        (programs / name).symlink_to(f"/usr/bin/{name}")
    script = "/sbin/ip link set lo up && exec $0 -m scripts.servers cluster $1"
    ended = subprocess.run(
        ["/usr/bin/unshare", "--net", "/bin/sh", "-c", script, sys.executable, str(tmp_path / "work")],
        capture_output=True,
        text=True,
        env={"PATH": str(programs), "HOME": str(Path.home())},
    )
    assert ended.returncode == 2, ended.stderr
    assert f"the command `{missing}` is missing" in ended.stdout
    assert processes_of(tmp_path / "work") == []


def test_a_parent_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    script = "ip link set lo up && exec $0 -m scripts.servers cluster $1 --query-nodes 1"
    command = ["unshare", "--net", "sh", "-c", script, sys.executable, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        assert len(processes_of(tmp_path)) >= 8
        process.kill()
    wait_until(lambda: not processes_of(tmp_path), timeout_s=20, what="the end of all that it started")
