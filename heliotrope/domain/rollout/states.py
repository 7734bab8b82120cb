"""The states of a rollout."""

from enum import StrEnum


class RolloutState(StrEnum):
    """Where a candidate is on its way; `Rollout.share` says how much of the traffic it has."""

    PENDING = "pending"
    """It was asked for and is not ready yet; it answers nobody."""
    SHADOW = "shadow"
    """It answers logged requests again, and nobody sees its answers."""
    CANARY = "canary"
    """It answers a share of the live traffic, step by step."""
    FULL = "full"
    """It answers all of the live traffic and is not champion yet."""
    BAKING = "baking"
    """It is champion, and the one before stays warm in case it has to come back."""
    PROMOTED = "promoted"
    """It is champion; the rollout is over."""
    ROLLED_BACK = "rolled_back"
    """It was taken back on evidence, or for want of any; the rollout is over."""
    PAUSED = "paused"
    """A person stopped the clock: shares stay as they are, and only a breach moves them."""
    ABORTED = "aborted"
    """A person took it back, or a newer candidate took its place; the rollout is over."""


TERMINAL = frozenset({RolloutState.PROMOTED, RolloutState.ROLLED_BACK, RolloutState.ABORTED})
"""No rollout leaves these."""
LIVE = frozenset({RolloutState.CANARY, RolloutState.FULL, RolloutState.BAKING})
"""Users get the candidate's answers."""
CROWNED = frozenset({RolloutState.BAKING, RolloutState.PROMOTED})
"""The candidate is champion."""
