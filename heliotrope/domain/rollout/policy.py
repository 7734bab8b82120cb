"""The parts of a spec that a rollout is decided by."""

from dataclasses import dataclass

from heliotrope.spec import ModelSpec
from heliotrope.spec.policies import Gates, Rollout


@dataclass(frozen=True)
class RolloutPolicy:
    """The person's demands."""

    rollout: Rollout
    gates: Gates

    @classmethod
    def of(cls, spec: ModelSpec) -> "RolloutPolicy":
        """A spec's."""
        return cls(spec.rollout, spec.gates)

    @property
    def alpha(self) -> float:
        """Of each one-sided comparison."""
        return 1 - self.gates.confidence

    @property
    def steps(self) -> tuple[int, ...]:
        """Shares of the traffic, rising, the last 100."""
        return self.rollout.steps

    def after(self, share: int) -> int:
        """The next share above; 100 after the last."""
        return next((step for step in self.steps if step > share), 100)
