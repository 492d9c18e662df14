"""Who operates a release may read what `shoplens cluster` asks for, and nothing else."""

import json

from serve_app.cluster.rights import RULES
from tests.helm.shoplens import NAMESPACE, RELEASE, of_kind, render

SOMEONE = json.dumps([{"kind": "Group", "name": "platform"}, {"kind": "ServiceAccount", "name": "bot"}])
EVERYWHERE = (
    f"operators.subjects={SOMEONE}",
    "operators.clusterRole=true",
    "operators.milvusNamespace=milvus",
    "operators.operatorNamespace=kuberay-system",
)
NAMESPACES = {"release": NAMESPACE, "milvus": "milvus", "operator": "kuberay-system", "cluster": None}


def rights(documents, kind):
    return {
        (document["metadata"].get("namespace"), group, resource, verb)
        for document in documents
        if document["kind"] == kind and document["metadata"]["labels"]["app.kubernetes.io/component"] == "operators"
        for rule in document["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_nobody_named_gets_no_role():
    documents = render("team")
    assert not rights(documents, "Role") | rights(documents, "ClusterRole")


def test_roles_hold_exactly_what_the_commands_ask_for():
    documents = render("team", *EVERYWHERE)
    asked = {
        (NAMESPACES[rule.scope], rule.group, resource, verb)
        for rule in RULES
        for resource in rule.resources
        for verb in rule.verbs
    }
    assert rights(documents, "Role") | rights(documents, "ClusterRole") == asked


def test_each_role_is_bound_to_those_who_are_named():
    documents = render("team", *EVERYWHERE)
    for kind in ("Role", "ClusterRole"):
        roles = {name for name in of_kind(documents, kind) if "-reads-" in name}
        bindings = [each for name, each in of_kind(documents, f"{kind}Binding").items() if "-reads-" in name]
        assert roles == {each["roleRef"]["name"] for each in bindings}
        for each in bindings:
            group, account = each["subjects"]
            assert group == {"kind": "Group", "name": "platform", "apiGroup": "rbac.authorization.k8s.io"}
            assert account == {"kind": "ServiceAccount", "name": "bot", "namespace": NAMESPACE}


def test_what_is_not_wanted_is_not_made():
    documents = render("team", EVERYWHERE[0])
    assert {namespace for namespace, *_ in rights(documents, "Role")} == {NAMESPACE}
    assert f"{RELEASE}-reads-release" in of_kind(documents, "Role")
    assert not rights(documents, "ClusterRole")
