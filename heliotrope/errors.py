"""The exceptions of Heliotrope. Every one says what, what it must be, and what was got.

```
HeliotropeError                  exit code 1
├── UsageError                   2   the command line or a file a person wrote is wrong
│   └── SpecError                2   a model spec has problems; holds all of them
├── NotFoundError                3   a model, version, alias or file is not there
├── DataFault                    4   the data cannot be trained on; a person must mend it
├── NotAccepted                  5   the gate said FAIL or HOLD (`train --require-pass`)
├── UnavailableError             6   a peer (MLflow, S3, ...) does not answer
├── ConflictError                7   somebody else did the same thing first
├── ParityError                  8   the served model does not answer as the trained one
└── RefusedError                 9   a peer (Kubernetes, KFP) understood and said no
```
Exit codes are stable: scripts may depend on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class HeliotropeError(Exception):
    """Base of all; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(HeliotropeError):
    """A person's input is wrong and the message says how to mend it."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a spec: where, what it must be, what was got."""

    field: str
    must: str
    got: str | None = None

    def __str__(self) -> str:
        """Render as `rollout.steps[1] must be ... Got 5.`"""
        tail = "" if self.got is None else f" Got {self.got}."
        return f"{self.field} must {self.must}.{tail}"


class SpecError(UsageError):
    """A model spec was refused; `problems` lists everything wrong with it at once."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) != 1 else "")
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{source}: {count}\n{lines}")


class NotFoundError(HeliotropeError):
    """Something named does not exist; the message says what does."""

    exit_code = 3


class DataFault(HeliotropeError):
    """The data cannot be trained on."""

    exit_code = 4


class NotAccepted(HeliotropeError):
    """A candidate was not accepted and the caller asked for that to be an error."""

    exit_code = 5


class UnavailableError(HeliotropeError):
    """A peer did not answer, after retries; nothing was half-written."""

    exit_code = 6


class ConflictError(HeliotropeError):
    """Another process changed the same thing first; repeat the command."""

    exit_code = 7


class ParityError(HeliotropeError):
    """The exported model does not answer as the trained one within the stated tolerance."""

    exit_code = 8


class RefusedError(HeliotropeError):
    """A peer understood what it was asked and refused; repeating it does not help."""

    exit_code = 9
