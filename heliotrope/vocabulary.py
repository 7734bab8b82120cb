"""Every name that two parts of Heliotrope must agree on, once.

Aliases, tags, artifact and environment names are spelled here and nowhere else, so that a
rename is one edit and a typo is an import error.
"""

from enum import StrEnum


class Task(StrEnum):
    """What a model predicts."""

    BINARY = "binary"
    """One of two classes; the spec names the positive one."""
    MULTICLASS = "multiclass"
    """One of three or more named classes."""
    REGRESSION = "regression"
    """A number."""


class Verdict(StrEnum):
    """The outcome of every judgement, ordered by severity in `SEVERITY`."""

    PASS = "PASS"
    """The evidence is there and it is good."""
    HOLD = "HOLD"
    """Not enough evidence to say either way; never a pass."""
    FAIL = "FAIL"
    """The evidence is there and it is bad."""
    ERROR = "ERROR"
    """The evidence could not be gathered; never a pass."""


SEVERITY: dict[Verdict, int] = {
    Verdict.PASS: 0,
    Verdict.HOLD: 1,
    Verdict.FAIL: 2,
    Verdict.ERROR: 3,
}


def worst(verdicts: list[Verdict]) -> Verdict:
    """Fold verdicts into the most severe one; an empty list is HOLD, since nothing was shown.

    >>> worst([Verdict.PASS, Verdict.HOLD])
    <Verdict.HOLD: 'HOLD'>
    >>> worst([])
    <Verdict.HOLD: 'HOLD'>
    """
    return max(verdicts, key=SEVERITY.__getitem__, default=Verdict.HOLD)


class Role(StrEnum):
    """In what capacity a version answered a request."""

    CHAMPION = "champion"
    """It answers users and is the accepted model."""
    CANARY = "canary"
    """It answers a share of users while it is judged."""
    SHADOW = "shadow"
    """It answers nobody; its answers are compared."""


class Place(StrEnum):
    """Where Heliotrope runs."""

    EMBEDDED = "embedded"
    """On one machine: processes, Envoy, SQLite, a folder."""
    CLUSTER = "cluster"
    """On Kubernetes: KFP, KServe, PostgreSQL, an object store."""


class ServingMode(StrEnum):
    """How KServe deploys, as its annotation spells it."""

    STANDARD = "Standard"
    """Deployments; traffic is split by the Gateway API."""
    KNATIVE = "Knative"
    """Revisions of a Knative Service."""


class Outcome(StrEnum):
    """How a training run ended, as its report and its MLflow run say."""

    REGISTERED = "registered"
    """A version was registered."""
    NOT_ACCEPTED = "not_accepted"
    """The gate said FAIL or HOLD; nothing was registered."""
    DATA_FAULT = "data_fault"
    """The data had a fatal fault; nothing was trained."""
    FAILED = "failed"
    """A step broke."""
    INTERRUPTED = "interrupted"
    """A person or a signal stopped the run."""


# MLflow registry
ALIAS_CHAMPION = "champion"
ALIAS_CANDIDATE = "candidate"

# MLflow tags, on runs and on model versions
TAG_PREFIX = "heliotrope."
TAG_RUN_KEY = "heliotrope.run_key"
TAG_MODEL = "heliotrope.model"
TAG_CAUSE = "heliotrope.cause"
TAG_OUTCOME = "heliotrope.outcome"
TAG_OUTCOME_REASON = "heliotrope.outcome_reason"
TAG_VERDICT = "heliotrope.gate_verdict"
TAG_STATE = "heliotrope.state"
TAG_SNAPSHOT_VERSION = "heliotrope.snapshot_version"
TAG_SNAPSHOT_HASH = "heliotrope.snapshot_hash"
TAG_COMMIT = "heliotrope.code_commit"
TAG_SOURCE_HASH = "heliotrope.source_hash"
TAG_PRIMARY = "heliotrope.primary_metric"
TAG_SEED = "heliotrope.seed"
TAG_COMPARED_WITH = "heliotrope.compared_with"
TAG_FIRST_ALIAS = "heliotrope.first_alias"
"""The alias a version got when it was registered; it stays when the alias moves on."""
TAG_ALIAS_NOTE = "heliotrope.alias_note"
STATE_REGISTERING = "registering"
STATE_COMPLETE = "complete"

# Files of a model folder: what is registered, and what a storage initializer hands the predictor
ONNX_FILE = "model.onnx"
SERVING_FILE = "serving.json"
SKOPS_FILE = "model.skops"

# Folders of a training run's artifacts in MLflow
ARTIFACT_MODEL = "model"
ARTIFACT_DATA = "data"
ARTIFACT_EVALUATION = "evaluation"
ARTIFACT_EVALUATION_FILE = "evaluation/evaluation.json"
ARTIFACT_QUALITY_FILE = "data/quality.json"
ARTIFACT_TRAINING_FILE = "model/training.json"
ARTIFACT_LINEAGE = "lineage.json"
ARTIFACT_GATE = "gate.json"
ARTIFACT_PARITY = "parity.json"
ARTIFACT_SPEC = "spec.yaml"

TRAINING_FILE = "training.json"

# Documents kept beside a run's log, so that whoever watches it here need not ask MLflow
KEPT_EVALUATION = "evaluation.json"
KEPT_QUALITY_PAGE = "quality.html"
KEPT_EVALUATION_PAGE = "evaluation.html"

# Columns Heliotrope adds to a snapshot
COLUMN_ROW = "_row"
"""Position of the row, 0 to rows - 1, by event time, then entity key, then source order."""

# Environment variables
ENV_HOME = "HELIOTROPE_HOME"
"""Folder of this machine's state; `./.heliotrope` without it."""
ENV_STORE = "HELIOTROPE_STORE"
"""Root of the Delta tables: a folder or `s3://bucket/prefix`; `store` in the home folder without
it. Credentials of S3 are in AWS's own variables."""
ENV_TRACKING = "MLFLOW_TRACKING_URI"
"""MLflow's address; a SQLite file in the home folder without it."""
ENV_MLFLOW_BACKEND = "MLFLOW_BACKEND_STORE_URI"
"""MLflow's own name for its server's database."""
ENV_PATIENCE = "HELIOTROPE_PATIENCE"
"""Seconds that a silent MLflow is asked again before a command gives up."""
ENV_STATE = "HELIOTROPE_STATE"
"""URL of the controller's database; a SQLite file in the home folder without it."""
ENV_CLOCK = "HELIOTROPE_CLOCK"
"""Path of a simulated clock's file, shared by all processes; the machine's clock without it."""
ENV_PLATFORM = "HELIOTROPE_PLATFORM"
"""Mark of every process that a `heliotrope up` started: its home folder."""
ENV_CHILD = "HELIOTROPE_CHILD"
"""Mark of one child of it: the home folder and the child's name."""
ENV_ROLE_FILE = "HELIOTROPE_ROLE_FILE"
"""File that holds a predictor's role, and is looked at again while it runs."""
ENV_ROLE = "HELIOTROPE_ROLE"
"""A predictor's role as long as no role file says another."""
ENV_MODEL_VERSION = "HELIOTROPE_MODEL_VERSION"
"""A predictor's version, where its model folder does not say it."""
ENV_IMAGE = "HELIOTROPE_IMAGE"
"""Image of the pipeline steps, read when a pipeline is compiled."""
ENV_IMAGE_DIGEST = "HELIOTROPE_IMAGE_DIGEST"
"""Digest of the image that runs, for lineage; set when it is deployed."""
ENV_CODE_COMMIT = "HELIOTROPE_CODE_COMMIT"
"""Commit of the code in an image, for lineage, where there is no checkout to ask; set when the
image is built."""
ENV_CODE_DIRTY = "HELIOTROPE_CODE_DIRTY"
"""`true` where that code differed from its commit."""
ENV_LOCK_HASH = "HELIOTROPE_LOCK_HASH"
"""Hash of the lock file that an image was built from."""

# Kubernetes
ENV_PLACE = "HELIOTROPE_PLACE"
"""`cluster` where this process belongs to a cluster; one machine without it."""
ENV_NAMESPACE = "HELIOTROPE_NAMESPACE"
"""Namespace of the models; the pod's own, or the kubeconfig's, without it."""
ENV_KSERVE_MODE = "HELIOTROPE_KSERVE_MODE"
"""`Standard` (Deployments behind the Gateway API), which it is without it, or `Knative`."""
ENV_REPLICAS = "HELIOTROPE_REPLICAS"
"""Pods of the version that has the traffic, at least; 1 without it."""
LEASE_CONTROLLER = "heliotrope-controller"
"""Held by the one controller of a namespace that acts."""
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "heliotrope"
LABEL_PART = "heliotrope.dev/part"
"""What an object of ours is for; one of the PART names."""
PART_SPEC = "spec"
"""A ConfigMap that holds a model's spec, put there by `heliotrope deploy`."""

# Kubeflow Pipelines
ENV_KFP_URL = "HELIOTROPE_KFP_URL"
"""KFP's API server; its Service in the namespace kubeflow without it."""
ENV_KFP_NAMESPACE = "HELIOTROPE_KFP_NAMESPACE"
"""The profile's, where KFP serves many users; empty where it serves one."""
ENV_KFP_SERVICE_ACCOUNT = "HELIOTROPE_KFP_SERVICE_ACCOUNT"
"""That pipeline runs use; KFP's own choice without it."""
ENV_KFP_TOKEN_FILE = "KF_PIPELINES_SA_TOKEN_PATH"
"""KFP's own name for the file that holds a projected service-account token."""
CONFIG_MAP_PLACES = "heliotrope-places"
"""In each namespace where our pods run: its keys are named as the variables they set."""
SECRET_STATE = "heliotrope-state"
"""Its key `url` is ENV_STATE."""
SECRET_STATE_KEY = "url"
SECRET_STORE = "heliotrope-store"
"""The object store's keys, named as their variables; not there where the account has access."""
SECRET_MLFLOW_LOGIN = "heliotrope-mlflow-login"
"""MLflow's user and password, named as their variables; not there where MLflow asks for none."""

DEFAULT_IMAGE = "heliotrope/component:0.1.0"

# What validate_data answers: KFP conditions compare only fixed words
DATA_USABLE = "usable"
DATA_FAULTY = "faulty"

# HTTP
HEADER_REQUEST_ID = "x-request-id"
HEADER_MODEL_VERSION = "x-model-version"
HEADER_REPLAY = "x-heliotrope-replay"
"""On a request that the platform repeats from its log: its answer reaches nobody."""

# Between a predictor's shipper, label senders and a collector
HEADER_SPOOL_FOLLOWS = "x-spool-follows"
"""The sequence number up to which the sender believes the collector to hold its spool."""
HEADER_SPOOL_GAP = "x-spool-gap"
"""Why records are missing before or within a batch; one of `GAP_REASONS`."""
HEADER_IDEMPOTENCY_KEY = "idempotency-key"
CONTENT_SPOOL = "application/x-heliotrope-spool"
GAP_REASONS = ("budget", "damaged", "quarantined", "elsewhere")
"""budget: dropped to keep the disk budget, or deleted; damaged: unreadable on disk; quarantined:
refused by the collector and set aside; elsewhere: acknowledged before, to another store."""
PATH_SPOOLS = "/v1/spools"
PATH_LABELS = "/v1/labels"
PATH_MODELS = "/v1/models"
ENV_COLLECTOR_URL = "HELIOTROPE_COLLECTOR_URL"
"""Where predictors ship their spools and `labels send` sends labels."""
ENV_COLLECTOR_TOKEN = "HELIOTROPE_COLLECTOR_TOKEN"
"""What a sender shows, and, on a collector without a token file, the one token it takes."""
COLLECTOR_TOKEN_FILE = "collector.token"
"""In the home folder; made by `heliotrope collector` where it is not there."""

# The controller
MODEL_PLATFORM = "_platform"
"""Stands for a model's name where something is about no single model; no model can be called so."""
PATH_ALERTS = "/v1/alerts"
PATH_API = "/api/v1"
HEADER_NOW = "x-heliotrope-now"
"""The controller's clock, UTC, on answers whose times are in it."""
ENV_CONTROLLER_TOKEN = "HELIOTROPE_CONTROLLER_TOKEN"
"""What Alertmanager and people show, and, without a token file, the one token it takes."""
CONTROLLER_TOKEN_FILE = "controller.token"
"""In the home folder; made by `heliotrope controller` where it is not there."""
CONTROLLER_LOCK_FILE = "controller.lock"
"""In the home folder; held by the one controller that acts."""
ENV_NOTIFY = "HELIOTROPE_NOTIFY"
"""Apprise URLs that people are told at, between commas or newlines. They hold secrets."""

# Kubernetes: labels on objects and pods
LABEL_MODEL = "heliotrope.dev/model"
LABEL_VERSION = "heliotrope.dev/version"
