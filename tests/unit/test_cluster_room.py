from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.cluster.room import Resources, quantity, requests, unplaced
from tests.unit.cluster_fakes import container


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", "1"), ("1500m", "1.5"), ("2Gi", str(2**31)), ("1e3", "1000"), ("5k", "5000"), ("0.5", "0.5"), (4, "4")],
)
def test_quantities_are_read_as_kubernetes_means_them(text, value):
    assert quantity(text) == Decimal(value)


def test_pod_asks_for_its_containers_or_for_its_largest_init_container():
    containers = [container("a", "1", "1Gi"), container("b", "500m", "1Gi")]
    spec = {"containers": containers, "initContainers": [container("c", "200m", "3Gi")]}
    assert requests(spec) == Resources(1500, 3 * 2**30)


def test_sidecars_count_beside_the_containers():
    sidecar = container("s", "250m", "1Gi") | {"restartPolicy": "Always"}
    assert requests({"containers": [container("a", "1", "1Gi")], "initContainers": [sidecar]}) == Resources(1250, 2**31)


def test_limits_stand_in_for_missing_requests():
    assert requests({"containers": [{"resources": {"limits": {"cpu": "2"}}}]}) == Resources(2000)


def test_pods_without_gpus_leave_gpu_nodes_to_others():
    gpu_node, cpu_node = Resources(1000, 100, 1), Resources(1000, 200)
    pods = [Resources(1000, 90), Resources(1000, 80, 1)]
    assert unplaced(pods, [gpu_node, cpu_node]) == []


amounts = st.builds(Resources, st.integers(0, 4), st.integers(0, 4), st.integers(0, 2))


@given(st.lists(amounts, max_size=6), st.lists(amounts, max_size=4))
def test_what_is_placed_fits_into_the_sum_of_nodes(pods, nodes):
    homeless = unplaced(pods, nodes)
    placed = list(pods)
    for each in homeless:
        placed.remove(each)
    assert sum(nodes, Resources()).holds(sum(placed, Resources()))
