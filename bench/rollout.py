"""How often a rollout is wrong under continuous looking, and how many labels a verdict takes.

    python -m bench.rollout [--rollouts 1000] [--write]

Each simulated rollout is looked at after every label, as a controller that never sleeps would.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heliotrope.domain.rollout.betting import wealth_path_above

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Floats, Floats]]
"""Losses of champion and candidate on the same requests."""

TABLE = Path(__file__).parents[1] / "docs" / "tables" / "rollout.md"
ALPHA, MINIMUM, MOST, SEED = 0.05, 200, 8_000, 20261
Z = 1.6449
"""The one-sided 5% quantile of a normal."""


def answers(champion: float, candidate: float, both_wrong: float = 0.7) -> Draw:
    """Right or wrong answers; that share of the better one's errors both make."""

    def draw(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        shared = both_wrong * min(1 - champion, 1 - candidate)
        u = random.random(count)
        ours = u < 1 - champion
        theirs = (u < shared) | ((u >= 1 - champion) & (u < 2 - champion - candidate - shared))
        return ours.astype(float), theirs.astype(float)

    return draw


def scores(noise: float, extra: float, rate: float = 0.02) -> Draw:
    """Brier scores on a rare class: both know the chance, up to noise of the log-odds."""

    def draw(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        odds = random.normal(math.log(rate / (1 - rate)), 1.2, count)
        truth = (random.random(count) < 1 / (1 + np.exp(-odds))).astype(float)
        return tuple(
            (1 / (1 + np.exp(-odds - random.normal(0, spread, count))) - truth) ** 2
            for spread in (noise, extra)
        )  # type: ignore[return-value]

    return draw


@dataclass(frozen=True)
class Ended:
    """Of one simulated rollout: labels until it passed and until it failed; None if never."""

    passed: int | None
    failed: int | None

    @property
    def promoted(self) -> bool:
        """Whether it passed first."""
        return self.passed is not None and (self.failed is None or self.passed < self.failed)


def watch(gains: Floats, bound: float = 0.0) -> Ended:
    """Look at gains after each of them."""
    limit = -math.log(ALPHA)
    up = wealth_path_above(gains, bound) >= limit
    down = wealth_path_above(-gains, -bound) >= limit
    passed = int(up.argmax()) + 1 if up.any() else None
    failed = int(down.argmax()) + 1 if down.any() else None
    return Ended(None if passed is None else max(passed, MINIMUM), failed)


def fixed_repeated(gains: Floats) -> bool:
    """Whether an ordinary one-sided z-test, looked at after every label, ever says better."""
    count = np.arange(1, len(gains) + 1)
    mean = np.cumsum(gains) / count
    spread = np.sqrt(np.maximum(np.cumsum(gains**2) / count - mean**2, 1e-12) / count)
    return bool((mean / spread > Z)[MINIMUM - 1 :].any())


def simulate(draw: Draw, bound: float, rollouts: int, seed: int) -> tuple[float, float, float]:
    """Shares of rollouts promoted and rolled back, and promoted by the repeated z-test."""
    random = np.random.default_rng(seed)
    promoted = failed = fooled = 0
    for _ in range(rollouts):
        champion, candidate = draw(random, MOST)
        gains = champion - candidate
        ended = watch(gains, bound)
        promoted += ended.promoted
        failed += ended.failed is not None and not ended.promoted
        fooled += fixed_repeated(gains - bound)
    return promoted / rollouts, failed / rollouts, fooled / rollouts


def paired_labels(draw: Draw, rollouts: int, seed: int, most: int = MOST) -> list[int]:
    """Labels until a pass on the same requests."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(rollouts):
        champion, candidate = draw(random, most)
        found.append(watch(champion - candidate).passed or most)
    return found


def unpaired_labels(draw: Draw, rollouts: int, seed: int, most: int = 3 * MOST) -> list[int]:
    """Labels, of both versions, until a pass where each answered half of the requests."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(rollouts):
        champion, candidate = draw(random, most)[0], draw(random, most)[1]
        found.append(2 * (watch(champion - candidate).passed or most))
    return found


WRONG: tuple[tuple[str, Draw, float], ...] = (
    ("accuracy 91% against 91%", answers(0.91, 0.91), 0.0),
    ("accuracy 91% against 91%, nearly the same model", answers(0.91, 0.91, 0.98), 0.0),
    ("accuracy 90% against 91%", answers(0.91, 0.90), 0.0),
    ("accuracy 90% against 91%, 1% tolerated", answers(0.91, 0.90), -0.01),
    ("Brier, 2% positives, equal", scores(0.3, 0.3), 0.0),
    ("Brier, 2% positives, noisier", scores(0.3, 0.5), 0.0),
)


def report(rollouts: int) -> str:
    """The tables, as Markdown."""
    lines = [
        "# Rollouts: wrong promotions, and labels to a verdict",
        "",
        f"Made by `python -m bench.rollout --write`: {rollouts:,} simulated rollouts a line, seed "
        f"{SEED}, looked at after every label up to {MOST:,}; confidence {1 - ALPHA:.0%} "
        f"one-sided, at least {MINIMUM} labels before a pass.",
        "",
        "## Candidates that must not pass",
        "",
        "| candidate against champion | promoted | rolled back | promoted by a repeated z-test |",
        "|---|---|---|---|",
    ]
    for place, (name, draw, bound) in enumerate(WRONG):
        promoted, failed, fooled = simulate(draw, bound, rollouts, SEED + place)
        lines.append(f"| {name} | {promoted:.1%} | {failed:.1%} | {fooled:.1%} |")
    lines += [
        "",
        "## Labels until a better candidate passes",
        "",
        "Paired: both versions answer the same requests (a shadow). Unpaired: each answers half of "
        "them (a canary at 50%); labels of both are counted.",
        "",
        "| candidate against champion | paired, p50 / p90 | unpaired, p50 / p90 | ratio of p50 |",
        "|---|---|---|---|",
    ]
    for name, draw in (
        ("accuracy 93% against 91%", answers(0.91, 0.93)),
        ("accuracy 94% against 90%", answers(0.90, 0.94)),
        ("accuracy 93% against 91%, few shared errors", answers(0.91, 0.93, 0.3)),
    ):
        few = max(50, rollouts // 4)
        paired = np.quantile(paired_labels(draw, few, SEED), (0.5, 0.9))
        apart = np.quantile(unpaired_labels(draw, few, SEED), (0.5, 0.9))
        ratio = paired[0] / apart[0]
        lines.append(
            f"| {name} | {paired[0]:,.0f} / {paired[1]:,.0f} | {apart[0]:,.0f} / {apart[1]:,.0f} "
            f"| {ratio:.0%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the tables; with `--write` keep them in docs/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help=f"into {TABLE.name}")
    given = parser.parse_args()
    text = report(given.rollouts)
    print(text)
    if given.write:
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        TABLE.write_text(text)


if __name__ == "__main__":
    main()
