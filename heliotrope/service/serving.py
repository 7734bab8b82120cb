"""Finding the version that a person means, and its files on local disk."""

from pathlib import Path

from heliotrope.domain.serving import ServingContract
from heliotrope.errors import HeliotropeError
from heliotrope.ports import RegisteredVersion, Registry
from heliotrope.service.lineage import choose
from heliotrope.vocabulary import ALIAS_CHAMPION, ONNX_FILE, SERVING_FILE


def find_version(
    registry: Registry, model: str, version: str | None, alias: str | None
) -> RegisteredVersion:
    """A version by number, or by alias; the champion when neither is given.

    Raises:
        NotFoundError: it does not exist; the message names what does.
    """
    if version is not None:
        return registry.version(model, version)
    return choose(registry, model, alias or ALIAS_CHAMPION)


def cached_model(cache: Path, model: str, version: str) -> Path | None:
    """The version's folder where it was fetched before; None otherwise."""
    folder = cache / model / version
    return folder if _whole(folder) else None


def fetch_model(registry: Registry, found: RegisteredVersion, cache: Path) -> Path:
    """The version's model folder on local disk, downloaded once: a version never changes.

    Raises:
        HeliotropeError: what was downloaded is not a model folder.
    """
    folder = cache / found.model / found.version
    if not _whole(folder):
        registry.download(found, folder)
    if not _whole(folder):
        raise HeliotropeError(
            f"version {found.version} of {found.model} must hold {ONNX_FILE} and {SERVING_FILE}. "
            f"Got a folder without them at {folder}."
        )
    return folder


def read_contract(folder: Path) -> ServingContract:
    """The serving contract of a model folder."""
    return ServingContract.from_json((folder / SERVING_FILE).read_bytes())


def _whole(folder: Path) -> bool:
    return (folder / ONNX_FILE).is_file() and (folder / SERVING_FILE).is_file()
