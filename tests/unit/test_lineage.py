"""What is recorded of a version's origin, and what is said when it is not as it was."""

import hashlib
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from heliotrope.adapters.code_identity import code_identity, hash_sources
from heliotrope.adapters.mlflow_link import mask
from heliotrope.adapters.registrar import Registrar, abandoned
from heliotrope.domain.lineage import CodeIdentity
from heliotrope.service.reproduction import compare_code

NOW = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package beside its lock file, not in any checkout."""
    for name in ("heliotrope", "components"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"# {name}\n")
    (tmp_path / "requirements.lock").write_text("numpy==2.0\n")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_clean_checkout_is_its_commit(project):
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    code = code_identity(project, {"HELIOTROPE_CODE_COMMIT": "of-an-image"})
    assert code.commit == git(project, "rev-parse", "HEAD")
    assert code.dirty is False
    assert code.lock_hash == hashlib.sha256(b"numpy==2.0\n").hexdigest()


@pytest.mark.parametrize("change", ["heliotrope/__init__.py", "heliotrope/new.py"])
def test_a_checkout_with_changes_is_dirty_and_has_other_sources(project, change):
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    before = code_identity(project, {})
    (project / change).write_text("changed = True\n")
    after = code_identity(project, {})
    assert after.dirty is True
    assert after.commit == before.commit
    assert after.source_hash != before.source_hash


def test_a_file_outside_the_sources_leaves_a_checkout_clean(project):
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    (project / "notes.txt").write_text("mine")
    assert code_identity(project, {}).dirty is False


def test_an_image_is_what_its_build_recorded(project):
    (project / "requirements.lock").unlink()
    environ = {
        "HELIOTROPE_CODE_COMMIT": "abc123",
        "HELIOTROPE_CODE_DIRTY": "false",
        "HELIOTROPE_LOCK_HASH": "beef",
        "HELIOTROPE_IMAGE": "registry.example/heliotrope:1",
        "HELIOTROPE_IMAGE_DIGEST": "sha256:77",
    }
    code = code_identity(project, environ)
    assert (code.commit, code.dirty, code.lock_hash) == ("abc123", False, "beef")
    assert code.image == "registry.example/heliotrope:1@sha256:77"


def test_without_checkout_and_image_the_sources_still_tell(project):
    code = code_identity(project, {})
    assert (code.commit, code.dirty, code.image) == (None, None, None)
    assert len(code.source_hash) == 64
    assert {"numpy", "scikit-learn", "onnx"} <= set(code.packages)


def test_somebody_elses_checkout_around_the_package_is_not_its_commit(project):
    inner = project / "site-packages"
    (inner / "heliotrope").mkdir(parents=True)
    (inner / "heliotrope" / "__init__.py").write_text("")
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "theirs")
    assert code_identity(inner, {}).commit is None


def test_the_source_hash_sees_names_and_contents_and_no_caches(project):
    before = hash_sources(project)
    cache = project / "heliotrope" / "__pycache__"
    cache.mkdir()
    (cache / "x.py").write_text("cached")
    (project / "heliotrope" / "data.bin").write_bytes(b"\0")
    assert hash_sources(project) == before
    (project / "heliotrope" / "__init__.py").rename(project / "heliotrope" / "other.py")
    assert hash_sources(project) != before


def identity(**changes: object) -> CodeIdentity:
    facts: dict[str, object] = {
        "commit": "a" * 40,
        "dirty": False,
        "source_hash": "s",
        "lock_hash": "l",
        "python": "3.11.2",
        "packages": {"numpy": "2.0", "skops": "0.12"},
    }
    return CodeIdentity.model_validate(facts | changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"commit": "b" * 40}, [("commit", "a" * 40, "b" * 40)]),
        ({"dirty": True}, [("commit", "a" * 40, "a" * 40 + " with uncommitted changes")]),
        ({"source_hash": "t"}, [("sources", "s", "t")]),
        ({"lock_hash": None}, [("lock file", "l", "unknown")]),
        ({"python": "3.12.1"}, [("python", "3.11.2", "3.12.1")]),
        ({"image": "i@sha256:1"}, [("image", "unknown", "i@sha256:1")]),
        ({"packages": {"numpy": "2.1", "skops": "0.12"}}, [("numpy", "2.0", "2.1")]),
        (
            {"packages": {"numpy": "2.0", "onnx": "1.17"}},
            [("onnx", "unknown", "1.17"), ("skops", "0.12", "unknown")],
        ),
    ],
)
def test_every_difference_of_code_is_named(change, said):
    changes = compare_code(identity(), identity(**change))
    assert [(c.what, c.then, c.now) for c in changes] == said


def test_a_registrar_survives_a_tag():
    current = Registrar.current()
    assert Registrar.parse(str(current)) == current
    assert current.here
    assert current.alive
    assert current.pid == os.getpid()


@pytest.mark.parametrize("text", ["", "x", "a|b", "a|b|c", "||"])
def test_a_tag_that_no_registrar_wrote_is_nobody(text):
    assert Registrar.parse(text) is None


def test_a_process_that_ended_is_not_alive_even_when_its_number_is_used_again():
    child = subprocess.Popen(["true"])
    child.wait()
    current = Registrar.current()
    assert not Registrar(current.place, child.pid, "").alive
    assert not Registrar(current.place, current.pid, "1").alive


@pytest.mark.parametrize(
    ("who", "in_flight", "age", "expected"),
    [
        ("me", True, 9999, False),
        ("me", False, 0, True),
        ("dead", False, 0, True),
        ("elsewhere", False, 59, False),
        ("elsewhere", False, 61, True),
        ("nobody", False, 59, False),
        ("nobody", False, 61, True),
    ],
)
def test_a_registration_is_abandoned_when_nobody_can_finish_it(who, in_flight, age, expected):
    current = Registrar.current()
    registrar = {
        "me": current,
        "dead": Registrar(current.place, current.pid, "1"),
        "elsewhere": Registrar("elsewhere", current.pid, current.started),
        "nobody": None,
    }[who]
    began = NOW - timedelta(minutes=age)
    assert abandoned(registrar, in_flight, began, NOW, timedelta(minutes=60)) is expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://a:b@host:5000/x", "http://***@host:5000/x"),
        ("postgresql+psycopg://u:p%40ss@db/x", "postgresql+psycopg://***@db/x"),
        ("see https://tok@one and https://a:b@two", "see https://***@one and https://***@two"),
        ("http://host/path?mail=ada@example.org", "http://host/path?mail=ada@example.org"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
    ],
)
def test_credentials_in_a_uri_are_hidden(text, shown):
    assert mask(text) == shown
