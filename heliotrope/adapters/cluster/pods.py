"""The pods that answer as each version of a model, one by one, past every Service and split."""

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.kserve_looking import Reader
from heliotrope.adapters.inference_pods import facts_by_version
from heliotrope.adapters.scrape_watch import Instance
from heliotrope.vocabulary import LABEL_MODEL


def pods_of(reader: Reader, model: str) -> list[Instance]:
    """Those that take requests now.

    Raises:
        UnavailableError: the cluster does not answer.
    """
    found = facts_by_version(reader.list(access.POD, {LABEL_MODEL: model}))
    return [
        Instance(version, pod, url) for version, facts in found.items() for pod, url in facts.ready
    ]
