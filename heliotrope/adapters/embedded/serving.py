"""The serving port on one machine: plans and what came of them are files.

`home/serving/<model>.json` is the plan, written by whoever decides; the supervisor of
`heliotrope up` reads it and writes `<model>.observed.json`. Both are replaced in one step, so a
reader sees a whole document, and either side may be killed and started again.
"""

import hashlib
import os
import secrets
from pathlib import Path

from pydantic import ValidationError

from heliotrope.adapters.embedded.supervisor.state import running_supervisor
from heliotrope.domain.document import Document
from heliotrope.domain.serving_plan import ObservedServing, ServingPlan
from heliotrope.errors import UnavailableError

_OBSERVED = ".observed.json"


class ObservedFile(Document):
    """What the supervisor writes."""

    plan: str
    """Digest of the plan it was working on."""
    observed: ObservedServing


class EmbeddedServing:
    """Talks to the supervisor of a home folder through its files; see `heliotrope.ports.Serving`.

    Args:
        home: HELIOTROPE_HOME.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / "serving"

    def apply(self, plan: ServingPlan) -> None:
        """Ask for a plan. It is kept where the platform is down, and carried out when it is up.

        Raises:
            UnavailableError: the folder cannot be written.
        """
        self._replace(self._folder / f"{plan.model}.json", plan.to_json())

    def apply_first(self, plan: ServingPlan) -> bool:
        """Ask for a plan unless there is one; answers whether it was taken."""
        path = self._folder / f"{plan.model}.json"
        temporary = self._written(path, plan.to_json())
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def plan(self, model: str) -> ServingPlan | None:
        """What was last asked for.

        Raises:
            UnavailableError: the file cannot be read as a plan.
        """
        found = self.read_plan(model)
        return found[0] if found else None

    def read_plan(self, model: str) -> tuple[ServingPlan, str] | None:
        """The plan and its digest."""
        text = _read(self._folder / f"{model}.json")
        if text is None:
            return None
        try:
            return ServingPlan.from_json(text), _digest(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise UnavailableError(
                f"{self._folder / model}.json must be a serving plan. Got: {first['msg']}."
            ) from error

    def observe(self, model: str) -> ObservedServing | None:
        """What is there; None where the model was never served.

        Raises:
            UnavailableError: no supervisor runs, so nothing can be said of now.
        """
        plan = self.read_plan(model)
        text = _read(self._folder / f"{model}{_OBSERVED}")
        if plan is None and text is None:
            return None
        if running_supervisor(self._home) is None:
            raise UnavailableError(
                f"The embedded platform must be up to say how {model} is served. "
                f"It is not; start it with `heliotrope up SPEC` (home {self._home})."
            )
        seen = ObservedFile.from_json(text) if text is not None else None
        if seen is None:
            return ObservedServing(
                model=model, revisions=(), weights={}, settled=False, gateway=None
            )
        if plan is None or seen.plan != plan[1]:
            # It has not looked at the latest plan yet.
            return seen.observed.model_copy(update={"settled": False})
        return seen.observed

    def models(self) -> list[str]:
        """Those with a plan."""
        found = (path.name for path in self._folder.glob("*.json"))
        return sorted(name.removesuffix(".json") for name in found if not name.endswith(_OBSERVED))

    def write_observed(self, digest: str, observed: ObservedServing) -> None:
        """For the supervisor."""
        document = ObservedFile(plan=digest, observed=observed)
        self._replace(self._folder / f"{observed.model}{_OBSERVED}", document.to_json())

    def _replace(self, path: Path, text: str) -> None:
        self._written(path, text).replace(path)

    def _written(self, path: Path, text: str) -> Path:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text)
        except OSError as error:
            raise UnavailableError(f"{path} must be writable. Got {error.strerror}.") from error
        return temporary


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"{path} must be readable. Got {error.strerror}.") from error
