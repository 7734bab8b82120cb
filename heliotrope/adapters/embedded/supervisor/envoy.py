"""Envoy's configuration: pure functions from the split to what Envoy reads.

The listener never changes, so no connection is drained when weights move: routes come by RDS and
clusters by CDS, each from a file that is replaced by a rename (Envoy docs, "xDS: file-based").
A version is a cluster of its own; a model's route is a weighted cluster.

Retries are safe although a prediction is a POST: Envoy gives every request an id, a predictor's
answer and its record carry it, and readers count one id once. So a request whose predictor was
killed is sent again: to a version that has stood in for users before, where one is still there, and
else with pauses, for longer than a predictor takes to start. Who asks for a version by its number
gets that one or none.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliotrope.vocabulary import HEADER_REPLAY

ROUTES = "models"
TIMEOUT = "60s"
HEDGE = "3s"
"""A request that a version has not answered by then is sent to a version that can stand in as well,
and the first answer counts: so a version that hangs keeps nobody waiting."""
_BODY_BYTES = 16 << 20
"""Above the predictors' own limit; a body must be held to be sent again."""
_TYPES = "type.googleapis.com/envoy"
_PREVIOUS = f"{_TYPES}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True)
class Backend:
    """A version that listens."""

    model: str
    version: str
    port: int
    spares: tuple[int, ...] = ()
    """Ports of other versions, which answer its users while it does not."""

    @property
    def name(self) -> str:
        """Of its cluster."""
        return f"{self.model}/{self.version}"

    @property
    def alone(self) -> str:
        """Of the cluster without the spares."""
        return f"{self.name}-alone"


Split = Mapping[str, Mapping[str, int]]
"""Per cent by model and version; an empty mapping where no version of a model is ready."""


def bootstrap(listen: int, admin: int, folder: Path) -> dict[str, Any]:
    """What Envoy is started with; `folder` will hold cds.json and rds.json."""
    return {
        "node": {"id": "gateway", "cluster": "heliotrope"},
        "admin": {"address": _address(admin)},
        "dynamic_resources": {"cds_config": _from_file(folder / "cds.json")},
        "static_resources": {"listeners": [_listener(listen, folder)]},
    }


def clusters(backends: Sequence[Backend]) -> dict[str, Any]:
    """The CDS file."""
    made = []
    for backend in sorted(backends, key=lambda one: one.name):
        made.append(_cluster(backend.name, (backend.port, *sorted(backend.spares))))
        made.append(_cluster(backend.alone, (backend.port,)))
    return _response(made)


def routes(split: Split, backends: Sequence[Backend]) -> dict[str, Any]:
    """The RDS file: the split of each model, every version by its number, 404 for the rest."""
    found = [route for model in sorted(split) for route in _model_routes(model, split, backends)]
    known = ", ".join(sorted(split)) or "none yet"
    found.append(_refusal({"prefix": "/"}, 404, f"There is no such model here. Models: {known}."))
    return _response(
        [
            {
                "@type": f"{_TYPES}.config.route.v3.RouteConfiguration",
                "name": ROUTES,
                "virtual_hosts": [{"name": ROUTES, "domains": ["*"], "routes": found}],
                # What the platform repeats it asks of a version itself; a user's answer counts.
                "request_headers_to_remove": [HEADER_REPLAY],
            }
        ]
    )


def _response(resources: list[dict[str, Any]]) -> dict[str, Any]:
    text = json.dumps(resources, sort_keys=True)
    return {
        "version_info": hashlib.sha256(text.encode()).hexdigest()[:16],
        "resources": resources,
    }


def _from_file(path: Path) -> dict[str, Any]:
    source = {"path": str(path), "watched_directory": {"path": str(path.parent)}}
    return {"resource_api_version": "V3", "path_config_source": source}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(port: int, folder: Path) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "gateway",
        "rds": {"route_config_name": ROUTES, "config_source": _from_file(folder / "rds.json")},
        # The caller's id is the prediction's.
        "preserve_external_request_id": True,
        "request_id_extension": {
            "typed_config": {
                "@type": f"{_TYPES}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
            }
        },
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": True,
        "merge_slashes": True,
        "local_reply_config": {
            "body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
    }
    return {
        "name": "gateway",
        "address": _address(port),
        "per_connection_buffer_limit_bytes": _BODY_BYTES,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }


def _cluster(name: str, ports: Sequence[int]) -> dict[str, Any]:
    # The spares share the second priority: they are asked where the first does not answer.
    endpoints = [
        {"priority": priority, "lb_endpoints": [{"endpoint": {"address": _address(p)}} for p in of]}
        for priority, of in enumerate((ports[:1], ports[1:]))
        if of
    ]
    return {
        "@type": f"{_TYPES}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": _BODY_BYTES,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": endpoints,
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 4096,
                    "max_pending_requests": 8192,
                    "max_requests": 8192,
                    # All that wait for a killed predictor, not three of them.
                    "max_retries": 8192,
                }
            ]
        },
        # While a version is unhealthy its spares are asked at once, not after a first try. Without
        # spares it is tried all the same (Envoy's panic mode), so that a request waits for its
        # restart and is not refused. A cluster that is made anew has had no traffic: Envoy's
        # default is then to look once a minute.
        "health_checks": [
            {
                "timeout": "2s",
                "interval": "2s",
                "no_traffic_interval": "2s",
                "unhealthy_threshold": 3,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/v2/health/ready"},
            }
        ],
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                # Below the predictor's own 5 s, so that it never closes one that is being used.
                "common_http_protocol_options": {"idle_timeout": "4s"},
            }
        },
    }


def _model_routes(model: str, split: Split, backends: Sequence[Backend]) -> list[dict[str, Any]]:
    own = [backend for backend in backends if backend.model == model]
    found = [
        {
            "match": {"path_separated_prefix": f"/v2/models/{model}/versions/{backend.version}"},
            "route": _to({"cluster": backend.alone}),
        }
        for backend in sorted(own, key=lambda one: one.name)
    ]
    weighted = [
        {"name": f"{model}/{version}", "weight": weight}
        for version, weight in sorted(split[model].items())
        if weight > 0
    ]
    spared = any(one.spares for one in own if split[model].get(one.version, 0) > 0)
    for match in _matches(model):
        if weighted:
            route = _to({"weighted_clusters": {"clusters": weighted}}, hedged=spared)
            found.append({"match": match, "route": route})
        else:
            found.append(_refusal(match, 503, f"No version of {model} is ready."))
    return found


def _matches(model: str) -> list[dict[str, Any]]:
    return [
        {"path": f"/v1/models/{model}:predict"},
        {"path_separated_prefix": f"/v1/models/{model}"},
        {"path_separated_prefix": f"/v2/models/{model}"},
    ]


def _to(target: dict[str, Any], *, hedged: bool = False) -> dict[str, Any]:
    # With nobody to stand in, a second copy would only burden a version that is slow already.
    hedge = {"hedge_policy": {"hedge_on_per_try_timeout": True}} if hedged else {}
    return {
        **target,
        **hedge,
        "timeout": TIMEOUT,
        "retry_policy": {
            **({"per_try_timeout": HEDGE} if hedged else {}),
            "retry_on": "connect-failure,refused-stream,reset-before-request,reset",
            # About half a second each: as long as the timeout.
            "num_retries": 120,
            "retry_back_off": {"base_interval": "0.05s", "max_interval": "1s"},
            # The next try goes to the priority that was not tried; both are tried in turn.
            "retry_priority": {
                "name": "envoy.retry_priorities.previous_priorities",
                "typed_config": {"@type": _PREVIOUS, "update_frequency": 1},
            },
        },
    }


def _refusal(match: dict[str, Any], status: int, message: str) -> dict[str, Any]:
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": message}},
    }
