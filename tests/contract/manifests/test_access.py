"""Roles grant what `heliotrope.adapters.cluster.access` lists, no less and no more."""

import re
from pathlib import Path
from typing import Any

import pytest

from heliotrope.adapters.cluster import kfp_runs
from heliotrope.adapters.cluster.access import Account, accesses_of

Grant = tuple[str, str, str]
"""Group, resource, verb."""

BOUND = {
    Account.CONTROLLER: "heliotrope-controller",
    Account.PIPELINE: "heliotrope-pipeline",
    Account.DEPLOYER: "heliotrope-deployer",
}
CLUSTER = Path(kfp_runs.__file__).parent
KFP_CALL = re.compile(r"_link\.(\w+)\(\s*f?\"/(\w+)(?:/([^\"]*))?")
KFP_VERBS = {"get": "get", "pages": "list", "post": "create", "delete": "delete"}
KFP_ASKS = {("experiments", "get"), ("runs", "get"), ("pipelines", "list")}
"""What KFP asks Kubernetes of its own while it answers those calls (facts of its documentation)."""


def _granted(role: dict[str, Any]) -> set[Grant]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _needed(account: Account, knative: bool) -> set[Grant]:
    return {
        (one.kind.group, "/".join(filter(None, [one.kind.plural, one.subresource])), one.verb.value)
        for one in accesses_of(account)
        if not one.built_in and (knative or not one.knative)
    }


@pytest.mark.parametrize("account", BOUND)
def test_a_role_grants_what_its_account_calls_and_nothing_more(
    build: Any, account: Account
) -> None:
    role = build.named("Role", BOUND[account])
    assert _granted(role) == _needed(account, knative=build.name == "overlays/knative")


@pytest.mark.parametrize("account", sorted(set(Account) - set(BOUND)))
def test_an_account_without_calls_has_no_role(build: Any, account: Account) -> None:
    assert not _needed(account, knative=True)
    subjects = [one["name"] for binding in build.of("RoleBinding") for one in binding["subjects"]]
    assert f"heliotrope-{account}" not in subjects


def test_a_pod_gets_a_token_only_where_its_account_calls(build: Any) -> None:
    subjects = {one["name"] for binding in build.of("RoleBinding") for one in binding["subjects"]}
    for whose, _, pod in build.pods():
        account = pod["serviceAccountName"]
        assert pod["automountServiceAccountToken"] is (account in subjects), whose
    for account in build.of("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_every_binding_names_a_role_and_an_account_that_are_there(build: Any) -> None:
    accounts = {one["metadata"]["name"] for one in build.of("ServiceAccount")}
    others = {("pipeline-runner", "kubeflow"), ("default-editor", "heliotrope")}
    for binding in build.of("RoleBinding"):
        assert build.named(binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for one in binding["subjects"]:
            ours = one["name"] in accounts and one["namespace"] == "heliotrope"
            assert ours or (one["name"], one["namespace"]) in others


def test_nothing_is_granted_beyond_the_namespace(build: Any) -> None:
    assert not build.of("ClusterRole", "ClusterRoleBinding")
    roles = build.of("Role")
    assert not [one for one in roles for grant in _granted(one) if "*" in "".join(grant)]


def test_kfp_grants_the_controller_what_it_calls_and_nothing_more(overlay: Any) -> None:
    roles = [one for one in overlay.of("Role") if one["metadata"]["name"] == "heliotrope-kfp"]
    assert len(roles) == (overlay.name == "overlays/multi-user")
    called = {
        (resource, KFP_VERBS[verb])
        for file in ("kfp_runs.py", "kfp_experiment.py")
        for verb, resource, rest in KFP_CALL.findall((CLUSTER / file).read_text())
        # The door starts runs; only a person who asks KFP himself ends one early.
        if not rest.endswith(":terminate")
    }
    assert {("runs", "create"), ("runs", "delete"), ("experiments", "list")} <= called
    # Of pipelines it only looks for the newest version.
    wanted = called | {("pipelines", "get")} | KFP_ASKS
    for role in roles:
        assert _granted(role) == {("pipelines.kubeflow.org", *one) for one in wanted}
