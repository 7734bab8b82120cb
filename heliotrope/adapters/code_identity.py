"""Which code is running: commit, sources, lock file, image, libraries."""

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from heliotrope.domain.lineage import CodeIdentity
from heliotrope.vocabulary import (
    ENV_CODE_COMMIT,
    ENV_CODE_DIRTY,
    ENV_IMAGE,
    ENV_IMAGE_DIGEST,
    ENV_LOCK_HASH,
)

SOURCES = ("heliotrope", "components", "pipelines", "predictors")
LOCK_FILE = "requirements.lock"
PACKAGES = (
    "deltalake",
    "duckdb",
    "heliotrope",
    "ibis-framework",
    "kfp",
    "mlflow",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "skl2onnx",
    "skops",
)
"""The libraries that decide what a training makes of the same data."""


def code_identity(root: Path, environ: Mapping[str, str]) -> CodeIdentity:
    """What runs, from the checkout at `root` or, in an image, from what its build recorded.

    Args:
        root: the folder that holds the package.
        environ: environment variables.
    """
    commit, dirty = _git(root)
    if commit is None:
        commit = environ.get(ENV_CODE_COMMIT) or None
        said = environ.get(ENV_CODE_DIRTY)
        dirty = None if said is None else said.strip().lower() in ("1", "true", "yes")
    lock = root / LOCK_FILE
    return CodeIdentity(
        commit=commit,
        dirty=dirty,
        source_hash=hash_sources(root),
        lock_hash=_sha256(lock) if lock.is_file() else environ.get(ENV_LOCK_HASH) or None,
        image=_image(environ),
        python=platform.python_version(),
        packages=_packages(),
    )


def hash_sources(root: Path) -> str:
    """sha256 over the project's own source files, names and contents, in order of name.

    A dirty tree, an image and a clean checkout of the same files give the same hash. Compiled
    files, caches and whatever else is not Python, YAML or SQL do not count.
    """
    digest = hashlib.sha256()
    files = [
        path
        for name in SOURCES
        for path in (root / name).rglob("*")
        if path.suffix in (".py", ".yaml", ".sql") and "__pycache__" not in path.parts
    ]
    for path in sorted(files, key=lambda p: p.relative_to(root).as_posix()):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _git(root: Path) -> tuple[str | None, bool | None]:
    top = _ask_git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        # Installed into somebody else's checkout: its commit says nothing of this code.
        return None, None
    commit = _ask_git(root, "rev-parse", "HEAD")
    status = _ask_git(root, "status", "--porcelain", "--", *SOURCES, LOCK_FILE)
    return commit, None if commit is None or status is None else bool(status)


def _ask_git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _image(environ: Mapping[str, str]) -> str | None:
    image, digest = environ.get(ENV_IMAGE), environ.get(ENV_IMAGE_DIGEST)
    if image and digest and "@" not in image:
        return f"{image}@{digest}"
    return image or digest or None


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
