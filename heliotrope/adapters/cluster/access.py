"""Every access to Kubernetes' API that Heliotrope makes: the closed table behind client and Roles.

`KubeClient` refuses a call that no line here grants to its account, so the Roles written from this
table (and `heliotrope doctor`'s questions) are neither more nor less than what is used. A new call
starts with a new line.
"""

from dataclasses import dataclass
from enum import StrEnum


class Verb(StrEnum):
    """What is done, as RBAC spells it."""

    GET = "get"
    LIST = "list"
    WATCH = "watch"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"


class Account(StrEnum):
    """Who calls: a service account of ours, or the person who deploys."""

    CONTROLLER = "controller"
    """Moves rollouts: the one that acts, by its Lease."""
    PIPELINE = "pipeline"
    """A pipeline's step; `deploy_candidate` makes a rollout's first move."""
    DEPLOYER = "deployer"
    """Who runs `heliotrope deploy`, `destroy`, `doctor` and `rollout`."""
    PREDICTOR = "predictor"
    """Serves; has no access at all."""
    COLLECTOR = "collector"
    """Takes spools and labels; has no access at all."""


@dataclass(frozen=True)
class Kind:
    """A kind of object as the API server names it. `ALL` holds those that there are."""

    group: str
    """Empty for Kubernetes' core."""
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As objects say it.

        >>> LEASE.api_version, CONFIG_MAP.api_version
        ('coordination.k8s.io/v1', 'v1')
        """
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As RBAC's messages say it.

        >>> INFERENCE_SERVICE.resource, CONFIG_MAP.resource
        ('inferenceservices.serving.kserve.io', 'configmaps')
        """
        return f"{self.plural}.{self.group}" if self.group else self.plural


CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
POD = Kind("", "v1", "Pod", "pods")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
INFERENCE_SERVICE = Kind(
    "serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"
)  # fmt: skip
SERVING_RUNTIME = Kind("serving.kserve.io", "v1alpha1", "ServingRuntime", "servingruntimes")
KNATIVE_REVISION = Kind("serving.knative.dev", "v1", "Revision", "revisions")
ACCESS_REVIEW = Kind(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews",
    namespaced=False,
)  # fmt: skip

ALL = (
    CONFIG_MAP, POD, SERVICE_ACCOUNT, LEASE, INFERENCE_SERVICE, SERVING_RUNTIME, KNATIVE_REVISION,
    ACCESS_REVIEW,
)  # fmt: skip


@dataclass(frozen=True)
class Access:
    """One line: who may do what to which kind, and why."""

    verb: Verb
    kind: Kind
    accounts: frozenset[Account]
    why: str
    subresource: str = ""
    built_in: str = ""
    """The ClusterRole by which Kubernetes itself grants it to everybody; no Role of ours does."""
    knative: bool = False
    """Used in Knative mode only."""


_MOVERS = frozenset({Account.CONTROLLER, Account.PIPELINE, Account.DEPLOYER})
_CONTROLLER = frozenset({Account.CONTROLLER})
_DEPLOYER = frozenset({Account.DEPLOYER})

ACCESSES: tuple[Access, ...] = (
    Access(Verb.GET, CONFIG_MAP, _MOVERS, "read the serving plan, roles and configuration"),
    Access(Verb.CREATE, CONFIG_MAP, _MOVERS, "keep a first serving plan (server-side apply)"),
    Access(Verb.PATCH, CONFIG_MAP, _MOVERS, "keep the serving plan and the roles"),
    Access(
        Verb.LIST, CONFIG_MAP, _CONTROLLER | _DEPLOYER, "find the specs that `deploy` put there"
    ),
    Access(Verb.WATCH, CONFIG_MAP, _CONTROLLER, "keep copies of plans, roles and specs up to date"),
    Access(Verb.DELETE, CONFIG_MAP, _DEPLOYER, "`destroy`"),
    Access(Verb.GET, INFERENCE_SERVICE, _MOVERS, "see what is served"),
    Access(Verb.CREATE, INFERENCE_SERVICE, _MOVERS, "serve a first version (server-side apply)"),
    Access(Verb.PATCH, INFERENCE_SERVICE, _MOVERS, "move versions and traffic"),
    Access(Verb.LIST, INFERENCE_SERVICE, _CONTROLLER, "begin copies of what is served"),
    Access(Verb.WATCH, INFERENCE_SERVICE, _CONTROLLER, "keep the copies up to date"),
    Access(Verb.DELETE, INFERENCE_SERVICE, _DEPLOYER, "`destroy`"),
    Access(Verb.LIST, POD, _MOVERS, "say why a version is not ready, and how often it started"),
    Access(Verb.WATCH, POD, _CONTROLLER, "keep copies of them up to date"),
    Access(
        Verb.GET, KNATIVE_REVISION, _MOVERS, "know which version a revision runs", knative=True
    ),
    Access(Verb.LIST, KNATIVE_REVISION, _CONTROLLER, "begin copies of revisions", knative=True),
    Access(Verb.WATCH, KNATIVE_REVISION, _CONTROLLER, "keep them up to date", knative=True),
    Access(Verb.GET, LEASE, _CONTROLLER, "see who holds the controller's lock"),
    Access(Verb.CREATE, LEASE, _CONTROLLER, "take the controller's lock for the first time"),
    Access(Verb.UPDATE, LEASE, _CONTROLLER, "take, renew and release the controller's lock"),
    Access(Verb.GET, SERVING_RUNTIME, _DEPLOYER, "`doctor`: is our runtime there"),
    Access(Verb.GET, SERVICE_ACCOUNT, _DEPLOYER, "`doctor`: are storage credentials attached"),
    Access(
        Verb.CREATE, ACCESS_REVIEW, frozenset(Account), "`doctor`: ask what this account may do",
        built_in="system:basic-user",
    ),
)  # fmt: skip

PATHS: dict[str, str] = {
    "/version": "`doctor`: Kubernetes' version",
    "/apis": "`doctor`: which API groups the cluster has",
}
"""Paths that are no object's, and what lies below them; `system:discovery` grants them to all."""


def granted(account: Account, verb: Verb, kind: Kind, subresource: str = "") -> Access | None:
    """The line that grants an access.

    >>> granted(Account.CONTROLLER, Verb.PATCH, INFERENCE_SERVICE).why
    'move versions and traffic'
    >>> granted(Account.CONTROLLER, Verb.DELETE, INFERENCE_SERVICE) is None
    True
    """
    for access in ACCESSES:
        if (access.verb, access.kind, access.subresource) == (verb, kind, subresource):
            return access if account in access.accounts else None
    return None


def accesses_of(account: Account) -> tuple[Access, ...]:
    """An account's lines."""
    return tuple(access for access in ACCESSES if account in access.accounts)
