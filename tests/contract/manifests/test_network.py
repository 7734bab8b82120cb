"""What may talk to what: the flows that there are, each allowed at both ends, and no other."""

from collections.abc import Iterator
from typing import Any

NAME = "app.kubernetes.io/name"
Flow = tuple[str, int]
"""Who is at the other end, and the port there or here."""

GATEWAY, SENDERS, WATCHERS = "sends-requests", "sends-labels", "watches"
PREDICTOR, COLLECTOR, CONTROLLER, MLFLOW = (
    f"heliotrope-{one}" for one in ("predictor", "collector", "controller", "mlflow")
)
DNS = "kube-system/kube-dns"
ANY = "anywhere"
IN: dict[str, set[Flow]] = {
    PREDICTOR: {(GATEWAY, 8080), (GATEWAY, 8081), (CONTROLLER, 8080), (WATCHERS, 8080)},
    COLLECTOR: {(PREDICTOR, 8200), (SENDERS, 8200), (WATCHERS, 8200)},
    CONTROLLER: {(WATCHERS, 8300)},
    MLFLOW: {
        (CONTROLLER, 5000),
        (WATCHERS, 5000),
        ("kubeflow/workflows.argoproj.io/workflow", 5000),
    },
}
OUT: dict[str, set[Flow]] = {
    # Model files from the object store.
    PREDICTOR: {(DNS, 53), (COLLECTOR, 8200), (ANY, 443)},
    COLLECTOR: {(DNS, 53), (ANY, 443)},
    # Kubernetes' API, object store, messengers; PostgreSQL.
    CONTROLLER: {
        *((DNS, 53), (PREDICTOR, 8080), (MLFLOW, 5000), ("kubeflow/ml-pipeline", 8888)),
        *((ANY, 443), (ANY, 6443), (ANY, 5432)),
    },
    MLFLOW: {(DNS, 53), (ANY, 443), (ANY, 5432)},
}
# A gateway that is asked for a revision by its tag, and Knative's own proxy beside each predictor.
KNATIVE_IN = {
    *((who, port) for who in (GATEWAY, "knative-serving") for port in (8012, 8013, 8112, 9090)),
    *((CONTROLLER, 8080), (WATCHERS, 8080)),
}
KNATIVE_OUT = {(GATEWAY, 80), (GATEWAY, 8080), (GATEWAY, 8081)}
MULTI_USER_IN = {("workflows.argoproj.io/workflow", 5000)}
S3, POSTGRES, BUCKET = "heliotrope-s3", "heliotrope-postgres", "heliotrope-bucket"
STEPS = "kubeflow/workflows.argoproj.io/workflow"
LOCAL_IN = {
    S3: {(who, 9000) for who in (BUCKET, COLLECTOR, CONTROLLER, MLFLOW, PREDICTOR, STEPS)},
    POSTGRES: {(who, 5432) for who in (CONTROLLER, MLFLOW, STEPS)},
    BUCKET: set[Flow](),
}
LOCAL_OUT = {S3: set[Flow](), POSTGRES: set[Flow](), BUCKET: {(DNS, 53)}}


def test_every_pod_has_a_policy_for_both_directions(overlay: Any) -> None:
    held = {PREDICTOR, *(labels[NAME] for _, labels, _ in overlay.pods())}
    for pod in held:
        kinds = {
            kind
            for one in overlay.of("NetworkPolicy")
            if one["spec"]["podSelector"]["matchLabels"] == {NAME: pod}
            for kind in one["spec"]["policyTypes"]
        }
        assert kinds == {"Ingress", "Egress"}, pod


def test_exactly_the_flows_that_there_are_may_come_in(overlay: Any) -> None:
    wanted = {pod: set(flows) for pod, flows in IN.items()}
    if overlay.name == "overlays/knative":
        wanted[PREDICTOR] = KNATIVE_IN
    if overlay.name == "overlays/multi-user":
        wanted[MLFLOW] |= MULTI_USER_IN
    if overlay.name == "overlays/local":
        wanted |= LOCAL_IN
    for pod, flows in wanted.items():
        assert set(_flows(overlay, pod, "ingress", "from")) == flows, pod


def test_exactly_the_flows_that_there_are_may_go_out(overlay: Any) -> None:
    wanted = {pod: set(flows) for pod, flows in OUT.items()}
    if overlay.name == "overlays/knative":
        wanted[CONTROLLER] |= KNATIVE_OUT
    if overlay.name == "overlays/local":
        wanted |= LOCAL_OUT
        for pod in (PREDICTOR, COLLECTOR, CONTROLLER, MLFLOW, BUCKET):
            wanted[pod] = wanted[pod] | {(S3, 9000)}
    for pod, flows in wanted.items():
        assert set(_flows(overlay, pod, "egress", "to")) == flows, pod


def test_what_one_part_may_send_to_another_may_also_come_in(overlay: Any) -> None:
    sent = [
        (pod, other, port)
        for pod in OUT
        for other, port in _flows(overlay, pod, "egress", "to")
        if other in IN or other in LOCAL_IN
    ]
    assert len(sent) >= 3
    for pod, other, port in sent:
        assert (pod, port) in set(_flows(overlay, other, "ingress", "from"))


def test_ports_that_may_be_reached_are_ones_that_are_listened_on(overlay: Any) -> None:
    listened = {
        labels[NAME]: {
            port["containerPort"] for one in pod["containers"] for port in one.get("ports", [])
        }
        for _, labels, pod in overlay.pods()
    }
    (predictor,) = overlay.runtime()["spec"]["containers"]
    listened[PREDICTOR] = {port["containerPort"] for port in predictor["ports"]}
    if overlay.name == "overlays/knative":
        listened[PREDICTOR] |= {8012, 8013, 8112, 9090}  # its queue-proxy's
    for pod, ports in listened.items():
        assert {port for _, port in _flows(overlay, pod, "ingress", "from")} <= ports, pod


def _flows(build: Any, pod: str, direction: str, end: str) -> Iterator[Flow]:
    for policy in build.of("NetworkPolicy"):
        if policy["spec"]["podSelector"]["matchLabels"] != {NAME: pod}:
            continue
        for rule in policy["spec"].get(direction, []):
            for peer in rule.get(end, [None]):
                for port in rule["ports"]:
                    yield from ((_who(one), port["port"]) for one in _each(peer))


def _who(peer: dict[str, Any] | None) -> str:
    if peer is None:
        return ANY
    space = peer.get("namespaceSelector", {}).get("matchLabels", {})
    pods = peer.get("podSelector", {})
    ((label, value),) = space.items() or [("", "")]
    where = value if label == "kubernetes.io/metadata.name" else label.rpartition("/")[2]
    labels = [*pods.get("matchLabels", {}).values()]
    labels += [one["key"] for one in pods.get("matchExpressions", [])]
    return "/".join(filter(None, [where, *labels]))


def _each(peer: dict[str, Any] | None) -> Iterator[dict[str, Any] | None]:
    """A peer that names several pods, as so many peers."""
    several = ((peer or {}).get("podSelector") or {}).get("matchExpressions") or [{}]
    if "values" not in several[0]:
        yield peer
    for name in several[0].get("values", []):
        yield {"podSelector": {"matchLabels": {several[0]["key"]: name}}}
