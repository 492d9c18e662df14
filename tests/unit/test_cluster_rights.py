import re

from serve_app.cluster import logs
from serve_app.cluster.observing import Observer
from serve_app.cluster.rights import RULES
from serve_app.cluster.surveying import Surveyor
from tests.unit.cluster_fakes import (
    RAY,
    TARGET,
    FakeApi,
    healthy,
    ray_service,
    secret_variable,
    worker_group,
)

SCOPES = {TARGET.namespace: "release", TARGET.milvus_namespace: "milvus", TARGET.operator_namespace: "operator"}
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/v1(?:/namespaces/(?P<namespace>[^/]+))?"
    r"(?:/(?P<resource>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+).*)?)?)?"
)


class Recording(FakeApi):
    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def _check(self, path: str) -> None:
        self.asked.add(path)


def right(path: str) -> tuple[str, str, str, str]:
    """Return scope, group, resource and verb that Kubernetes checks for a GET of `path`."""
    found = PATH.fullmatch(path)
    assert found, path
    scope = SCOPES.get(found["namespace"], "cluster")
    if found["resource"] is None:
        return scope, "", "namespaces", "get"
    resource = found["resource"] + (f"/{found['sub']}" if found["sub"] else "")
    return scope, found["group"] or "", resource, "get" if found["name"] else "list"


def is_discovery(path: str) -> bool:
    """Tell whether a path says only which kinds there are, which every user may ask."""
    return re.fullmatch(r"/apis/[^/]+(/v1)?", path) is not None


def asked_by_all_commands() -> set[tuple[str, str, str, str]]:
    api = Recording()
    api.__dict__.update({name: value for name, value in healthy().__dict__.items() if name != "asked"})
    groups = (worker_group("cpu", 1, env=[secret_variable("milvus", "password")]),)
    api.objects[f"{RAY}/rayservices/shoplens"] = ray_service(workers=groups)
    observer = Observer(api, TARGET)
    seen = observer.look()
    logs.lines_of(api, TARGET, seen.pods, "abc", 60)
    Surveyor(api, TARGET).survey(None, (), before=False)
    del api.objects[f"{RAY}/rayservices/shoplens"]
    api.put(f"{RAY}/rayservices", ray_service(), labels=TARGET.labels)
    observer.service()
    return {right(path) for path in api.asked if not is_discovery(path)}


def test_rules_are_exactly_what_the_commands_ask_for():
    ruled = {
        (rule.scope, rule.group, resource, verb) for rule in RULES for resource in rule.resources for verb in rule.verbs
    }
    assert asked_by_all_commands() == ruled


def test_no_rule_lets_anything_be_changed():
    assert {verb for rule in RULES for verb in rule.verbs} <= {"get", "list"}
