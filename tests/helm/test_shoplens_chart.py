"""What the Shoplens chart makes of its values, and which values it refuses."""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from scripts import helm_docs
from scripts.check_upstream import helm
from tests.helm.conftest import Document, Refused
from tests.helm.shoplens import CHART, PROFILES, SHAPES, arguments, of_kind, pods, rayjob, rayservice, render

SECURITY = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret", "downwardAPI", "csi", "ephemeral"}
"""Kinds of volumes that the pod security level `restricted` lets a pod have."""


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_passes_helm_lint(shape: str) -> None:
    subprocess.run([helm(), "lint", "--strict", str(CHART), *arguments(shape)], check=True)


def test_each_profile_is_a_shape() -> None:
    assert set(PROFILES) == {"laptop", "team", "fleet"}
    assert set(PROFILES) <= set(SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pod_is_admitted_at_restricted_and_writes_to_folders_of_its_own(shape: str) -> None:
    found = dict(pods(shape))
    assert len(found) >= 5
    for where, template in found.items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"], where
        assert pod["securityContext"]["runAsUser"] == 1000, where
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), where
        assert all(set(volume) - {"name"} <= VOLUMES for volume in pod["volumes"]), where
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == SECURITY, where
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), where
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            wanted = {"/tmp", "/home/shoplens"} | ({"/dev/shm"} if "ray" in container["name"] else set())
            assert wanted <= mounts.keys(), where
            assert set(mounts.values()) <= {volume["name"] for volume in pod["volumes"]}, where


@pytest.mark.parametrize("shape", SHAPES)
def test_what_kuberay_injects_is_locked_down_too(shape: str) -> None:
    cluster = rayservice(shape)["spec"]["rayClusterConfig"]
    options = cluster["autoscalerOptions"]
    assert options["version"] == "v2"
    assert options["securityContext"] == SECURITY
    assert options["resources"]["requests"]
    # KubeRay gives both containers of the head one folder for logs, where neither has mounted one.
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    for mounts in (options["volumeMounts"], head["volumeMounts"]):
        assert {"name": "ray-logs", "mountPath": "/tmp/ray"} in mounts


@pytest.mark.parametrize("shape", SHAPES)
def test_only_who_asks_the_api_server_has_a_token(shape: str) -> None:
    with_token = {where for where, template in pods(shape) if template["spec"]["automountServiceAccountToken"]}
    asks = {"RayService shop head", "Job shop-ready", "Job shop-bounds", "CronJob shop-import"}
    assert with_token == asks & dict(pods(shape)).keys()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_ray_pod_shows_its_metrics_on_the_port_that_is_scraped(shape: str) -> None:
    job = rayjob(shape)
    clusters = [rayservice(shape)["spec"]["rayClusterConfig"]] + ([job["spec"]["rayClusterSpec"]] if job else [])
    for cluster in clusters:
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
            ports = {
                port["name"]: port["containerPort"] for port in group["template"]["spec"]["containers"][0]["ports"]
            }
            assert ports["metrics"] == 8080
            assert group["rayStartParams"]["metrics-export-port"] == "8080"


def test_ray_of_the_cluster_is_the_ray_of_the_code() -> None:
    pinned = re.search(r"ray\[serve\]==([\d.]+)", (CHART.parents[1] / "pyproject.toml").read_text())
    assert pinned
    assert rayservice("cpu")["spec"]["rayClusterConfig"]["rayVersion"] == pinned[1]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_budget_keeps_all_cpu_workers_but_one(shape: str) -> None:
    groups = rayservice(shape)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    least = next(group["minReplicas"] for group in groups if group["groupName"] == "cpu")
    budgets = list(of_kind(render(shape), "PodDisruptionBudget").values())
    if least == 1:
        assert not budgets
        return
    (budget,) = budgets
    assert budget["spec"]["minAvailable"] == least - 1
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    cpu, others = [], []
    for where, template in pods(shape):
        (cpu if where == "RayService shop cpu" else others).append(template["metadata"]["labels"])
    wanted = budget["spec"]["selector"]["matchLabels"].items()
    assert all(wanted <= labels.items() for labels in cpu)
    assert not any(wanted <= labels.items() for labels in others)


def test_a_long_name_is_cut_to_what_kuberay_takes() -> None:
    assert len("x" * 47) == len(next(iter(of_kind(render("cpu", f"fullnameOverride={'x' * 47}"), "RayService"))))
    command = [helm(), "template", "a" * 46 + "-bcdefg", str(CHART), *arguments("fleet")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    documents = [document for document in yaml.safe_load_all(done.stdout) if document]
    (name,) = of_kind(documents, "RayService")
    assert name == "a" * 46
    assert all(len(document["metadata"]["name"]) <= 63 for document in documents)
    assert all(len(cronjob) <= 52 for cronjob in of_kind(documents, "CronJob"))
    (cronjob,) = [each for each in of_kind(documents, "CronJob") if each.endswith("-import")]
    job = yaml.safe_load(of_kind(documents, "ConfigMap")[cronjob]["data"]["rayjob.yaml"])
    # Kubernetes adds five characters; KubeRay takes 47.
    assert len(job["metadata"]["generateName"]) + 5 <= 47


def template_of(group: str, *values: str) -> Any:
    cluster = rayservice("team", *values)["spec"]["rayClusterConfig"]
    if group == "head":
        return cluster["headGroupSpec"]["template"]
    return next(each["template"] for each in cluster["workerGroupSpecs"] if each["groupName"] == group)


@pytest.mark.parametrize(("group", "pool"), [("head", "head"), ("cpu", "cpuWorkers"), ("gpu", "gpuWorkers")])
def test_changed_tolerations_which_kuberay_does_not_compare_change_what_it_does(group: str, pool: str) -> None:
    before = template_of(group)["metadata"]
    after = template_of(group, f'{pool}.tolerations=[{{"key": "other", "operator": "Exists"}}]')["metadata"]
    assert before["annotations"] != after["annotations"]


def test_changed_bounds_are_patched_or_make_a_new_cluster_but_never_pass_unseen() -> None:
    more = "cpuWorkers.maxReplicas=9"
    assert "shop-bounds" in of_kind(render("team"), "Job")
    assert template_of("cpu") == template_of("cpu", more)
    unpatched = "upgrades.patchBounds=false"
    assert "shop-bounds" not in of_kind(render("team", unpatched), "Job")
    assert template_of("cpu", unpatched) != template_of("cpu", unpatched, more)


def test_rights_are_few() -> None:
    roles = of_kind(render("fleet"), "Role")
    rights = {
        name: {(rule["resources"][0], verb) for rule in role["rules"] for verb in rule["verbs"]}
        for name, role in roles.items()
    }
    assert rights == {
        "shop-hooks": {("rayservices", "get"), ("rayclusters", "get"), ("rayclusters", "patch")},
        "shop-import": {("rayjobs", "get"), ("rayjobs", "list"), ("rayjobs", "create")},
    }
    assert not of_kind(render("fleet"), "ClusterRole")


@pytest.mark.parametrize(("shape", "kind"), [("fleet", "Ingress"), ("gateway", "HTTPRoute")])
def test_search_health_and_page_alone_are_reached_from_outside(shape: str, kind: str) -> None:
    (found,) = of_kind(render(shape), kind).values()
    # An Ingress can't tell the methods apart by which a product is read and written.
    products = set() if kind == "Ingress" else {("/v1/products", "Prefix")}
    if kind == "Ingress":
        paths = {(path["path"], path["pathType"]) for path in found["spec"]["rules"][0]["http"]["paths"]}
    else:
        matches = [match for rule in found["spec"]["rules"] for match in rule["matches"]]
        paths = {(match["path"]["value"], match["path"]["type"].removeprefix("Path")) for match in matches}
        methods = {(match["path"]["value"], match["method"]) for match in matches if match["method"] != "GET"}
        # The shape has a page of another origin, whose browser asks first.
        assert methods == {("/v1/search", "POST"), ("/v1/search", "OPTIONS")}
    assert paths - products == {
        ("/v1/search", "Exact"),
        ("/v2/health", "Prefix"),
        ("/", "Exact"),
        ("/page", "Prefix"),
        ("/v1/images", "Prefix"),
        ("/docs", "Exact"),
        ("/openapi.json", "Exact"),
    }
    assert products <= paths
    assert not any("/admin".startswith(path) for path, kind_of in paths if kind_of == "Prefix")


@pytest.mark.parametrize("taken", ["true", "false"])
def test_feedback_is_reached_from_outside_where_it_is_taken(taken: str) -> None:
    (found,) = of_kind(render("gateway", f"config.feedback.enabled={taken}"), "HTTPRoute").values()
    matches = [match for rule in found["spec"]["rules"] for match in rule["matches"]]
    told = {(match["method"], match["path"]["type"]) for match in matches if match["path"]["value"] == "/v1/feedback"}
    assert told == ({("POST", "Exact"), ("OPTIONS", "Exact")} if taken == "true" else set())


def test_an_import_waits_for_its_time_and_for_no_other() -> None:
    def spec(shape: str) -> Document:
        found: Document = of_kind(render(shape), "CronJob")["shop-import"]["spec"]
        return found

    assert spec("gateway")["suspend"]
    assert not spec("fleet")["suspend"]
    assert spec("fleet")["concurrencyPolicy"] == "Forbid"


def test_an_import_has_a_cluster_of_its_own_that_goes_when_it_ends() -> None:
    job = rayjob("fleet")
    assert job
    assert job["spec"]["shutdownAfterJobFinishes"]
    assert job["spec"]["entrypoint"] == (
        "shoplens import s3://catalogue/feed.parquet --full --feed 'shop feed' "
        "--config /settings/settings.yaml --address auto"
    )
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    resources = group["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("shape", SHAPES)
def test_secrets_are_read_by_who_needs_them(shape: str) -> None:
    for where, template in pods(shape):
        named = [volume["secret"]["secretName"] for volume in template["spec"]["volumes"] if "secret" in volume]
        keys = {"shop-keys", "shoplens-keys"} & set(named)
        assert set(named) - keys <= {"milvus-users"}, where
        assert not keys or where == "RayService shop cpu", where
        if where.endswith((" head", " gpu", " submitter")) and "RayJob" not in where:
            assert not named, where


def env_of_the_search_test(shape: str, *values: str) -> dict[str, Any]:
    (job,) = [each for name, each in of_kind(render(shape, *values), "Job").items() if name == "shop-search-test"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value") or entry["valueFrom"] for entry in container["env"]}


def test_hashes_of_keys_are_mounted_and_a_key_itself_is_given_to_the_test_alone() -> None:
    workers = rayservice("cpu")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (pod,) = [group["template"]["spec"] for group in workers]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "auth"]
    assert volume["secret"] == {"secretName": "shop-keys", "items": [{"key": "lines", "path": "keys"}]}
    assert {"name": "auth", "mountPath": "/secrets/auth", "readOnly": True} in pod["containers"][0]["volumeMounts"]
    reference = {"secretKeyRef": {"name": "shop-keys", "key": "test"}}
    assert env_of_the_search_test("cpu")["SHOPLENS_KEY"] == reference
    assert "SHOPLENS_KEY" not in env_of_the_search_test("cpu", "auth.testKey=")
    mentions = [where for where, template in pods("cpu") if "'test'" in str(template["spec"])]
    assert mentions == ["Job shop-search-test"]


@pytest.mark.parametrize("shape", SHAPES)
def test_who_may_search_without_a_key_is_said(shape: str) -> None:
    document = yaml.safe_load(rayservice(shape)["spec"]["serveConfigV2"])
    auth = document["applications"][0]["args"]["auth"]
    anonymous, public, with_keys = auth["anonymous_search"], auth["public"], auth["keys_file"] is not None
    assert anonymous == (shape in ("laptop", "gpu-on-cpu", "incremental"))
    assert public == (shape == "gateway")
    assert with_keys == (shape not in ("laptop", "gpu-on-cpu"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("image.tag=latest", "image.tag"),
        ("gpuImage.tag=latest", "gpuImage.tag"),
        ("image.tag=", "name a version"),
        ("image.repository=", "name the image"),
        ("milvus.uri=", "milvus.uri is empty"),
        ("lite.enabled=true", "set one of the two"),
        ("milvus.user=", "milvus.user is empty"),
        ("auth.public=true", "auth.trustedProxies"),
        ("auth.anonymousSearch=yes", "auth.anonymousSearch"),
        ('auth.origins=["https://shop.example.com/"]', "auth.origins"),
        ("auth.keys=hush", "keys is not allowed"),
        ("config.auth.anonymous_search=true", "anonymous_search is not allowed"),
        ("config.auth.keys_file=/elsewhere", "keys_file is not allowed"),
        ("config.store.signing_key=hush", "signing_key is not allowed"),
        ("config.ingres.num_cpus=1", "ingres is not allowed"),
        ("config.ingress.max_ongoing_request=1", "max_ongoing_request is not allowed"),
        ("config.http.port=9000", "port is not allowed"),
        ("config.milvus.uri=http://other:19530", "uri is not allowed"),
        ("config.milvus.password=hush", "password is not allowed"),
        ("config.data_dir=/elsewhere", "data_dir is not allowed"),
        ("config.searcher.params.ef=many", "config.searcher.params.ef"),
        ("config.ingress.graceful_shutdown_timeout_s=60", "raise drainSeconds"),
        ("config.ingress.graceful_shutdown_timeout_s=20", "set 35 or more"),
        ("drainSeconds=90", "raise terminationGraceSeconds"),
        ("cpuWorkers.minReplicas=0", "greater than or equal to 1"),
        ("cpuWorkers.minReplicas=5", "raise maxReplicas"),
        ("config.ingress.scaling.max_replicas=5", "raise cpuWorkers.maxReplicas"),
        ("config.searcher.scaling.min_replicas=0", "only detector and embedder may go to zero"),
        ("config.embedder.scaling.min_replicas=5", "raise max_replicas"),
        ("config.detector.num_gpus=1", "gpuWorkers.enabled=true"),
        ("config.detector.device=cuda", "config.detector.num_gpus"),
        ("config.ingress.max_in_flight=256", "config.ingress.max_ongoing_requests"),
        ("config.searcher.max_queued_requests=10", "at least config.ingress.max_in_flight"),
        ("head.state=redis", "head.redis.address=HOST:PORT"),
        ("head.state=etcd", "head.state"),
        ("upgrades.type=NewClusterWithIncrementalUpgrade", "upgrades.gatewayClassName"),
        ("upgrades.type=Recreate", "upgrades.type"),
        ("exposure.ingress.enabled=true", "exposure.ingress.host"),
        ("exposure.httpRoute.enabled=true", "exposure.httpRoute.parentRefs"),
        ("exposure.bodyBytes=1000", "raise exposure.bodyBytes"),
        ("exposure.timeoutSeconds=30", "exposure.timeoutSeconds"),
        ("import.schedule=@daily", "import.manifest is empty"),
        ("loadTest.enabled=true", "loadTest.image.tag"),
        ("loadTest.image.tag=latest", "loadTest.image.tag"),
        ("loadTest.shape=square", "loadTest.shape"),
        ("loadTest.shape=step", "loadTest.peakRate=NUMBER"),
        ("loadTest.peakRate=9", "loadTest.shape=step"),
        ("loadTest.rate=0", "loadTest.rate"),
        ("loadTest.workers=0", "loadTest.workers"),
        ('loadTest.photos={"hostPath": {"path": "/photos"}}', "loadTest.photos"),
        ("networkPolicies.operator=[]", "networkPolicies.operator"),
        ('env=[{"name": "RAY_AUTH_MODE", "value": "disabled"}]', "env"),
        ("budgets.minAvailable=1", "minAvailable is not allowed"),
        ("cpuWorkers.resources.requests.memory=null", "memory is required"),
    ],
)
def test_a_harmful_value_is_refused_with_the_fix(value: str, said: str) -> None:
    with pytest.raises(Refused, match=re.escape(said)):
        render("cpu", value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("head.state=redis", "head.redis.address=redis:6379"), "networkPolicies.redis"),
        (("auth.existingSecret=", "auth.testKey="), "auth.anonymousSearch=true"),
        (('config.fetch.search_hosts=["shop.test"]', "config.fetch.max_searches=192"), "config.fetch.max_searches"),
        (("auth.existingSecret=", "auth.anonymousSearch=true"), "auth.testKey"),
        (("auth.public=true", "auth.anonymousSearch=true"), "set one of the two"),
        (("config.detector.num_gpus=0.5", "gpuWorkers.enabled=true", "gpuWorkers.maxReplicas=4"),
         "config.detector.device=cuda"),
        (("auth.existingSecret=", "auth.testKey=", "auth.anonymousSearch=true", "loadTest.key=load"), "loadTest.key"),
        (("loadTest.enabled=true", "loadTest.image.tag=0.1.0-load"), "loadTest.key=NAME"),
        (("import.manifest=feed.csv", "config.import.device=cuda"), "import.gpus=1"),
        (("import.manifest=feed.csv", "import.gpus=1"), "config.import.device=cuda"),
        (("lite.enabled=true", "milvus.uri=", "config.milvus.replica_number=2"), "which Milvus Lite ignores"),
        (("upgrades.type=NewClusterWithIncrementalUpgrade", "upgrades.gatewayClassName=istio",
          "exposure.ingress.enabled=true", "exposure.ingress.host=a.example.com"), "turn them off"),
    ],
)  # fmt: skip
def test_values_that_contradict_each_other_are_refused_with_the_fix(values: tuple[str, ...], said: str) -> None:
    with pytest.raises(Refused, match=re.escape(said)):
        render("cpu", *values)


def test_model_that_is_tried_needs_room_on_the_gpus() -> None:
    with pytest.raises(Refused, match=re.escape("take 1.2 GPUs of 1: raise gpuWorkers.maxReplicas")):
        render("team", "config.shadow.model=ba9876543210")


def test_every_value_has_a_sentence_in_the_table() -> None:
    source = (CHART / "values.yaml").read_text()
    assert (
        helm_docs.with_table((CHART / "README.md").read_text(), helm_docs.table(source))
        == (CHART / "README.md").read_text()
    ), "run: python -m scripts.helm_docs"
    told = {path for path, _ in helm_docs.sentences(source)}

    def silent(values: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        if path in told:
            return []
        if not isinstance(values, dict):
            return [path]
        return [found for key, value in values.items() for found in silent(value, (*path, key))]

    assert silent(yaml.safe_load(source)) == []


def test_every_object_of_the_values_is_closed_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def open_ones(node: Document, path: str = "") -> list[str]:
        here = [] if node.get("additionalProperties") is False or "properties" not in node else [path]
        inside = {
            **node.get("properties", {}),
            **({"[]": node["items"]} if isinstance(node.get("items"), dict) else {}),
        }
        return here + [name for key, value in inside.items() for name in open_ones(value, f"{path}.{key}")]

    assert [name for name in open_ones(schema) if ".resources" not in name and "Resources" not in name] == []
    assert set(schema["properties"]) - {"global"} == set(yaml.safe_load((CHART / "values.yaml").read_text()))


def test_jobs_are_given_the_scripts_that_are_tested() -> None:
    scripts = of_kind(render("cpu"), "ConfigMap")["shop-scripts"]["data"]
    assert scripts == {path.name: path.read_text() for path in (CHART / "files").glob("*.py")}
