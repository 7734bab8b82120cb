"""The first plan of a model: all traffic to the champion that the registry names."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from heliotrope.adapters.embedded.serving import EmbeddedServing
from heliotrope.clock import Clock
from heliotrope.domain.serving_plan import Revision, ServingPlan
from heliotrope.errors import HeliotropeError, NotFoundError
from heliotrope.vocabulary import Role

logger = logging.getLogger("heliotrope.up")

LOOK_SECONDS = 2.0


class FirstPlans:
    """Gives each model without a plan its first one, as soon as it has a champion.

    Whoever writes a plan first wins: a plan that is there is never replaced.

    Args:
        serving: takes the plans.
        clock: dates them.
        champion: the champion's version of a model; NotFoundError where it has none.
        commands: by model, what a person runs to train it.
    """

    def __init__(
        self,
        serving: EmbeddedServing,
        clock: Clock,
        champion: Callable[[str], str],
        commands: dict[str, str],
    ) -> None:
        self._serving, self._clock, self._champion = serving, clock, champion
        self._commands = commands
        self.messages: dict[str, str] = {}
        """By model: what it waits for."""

    async def run(self) -> None:
        """Look for champions until every model has a plan."""
        while waiting := self.waiting():
            for model in waiting:
                await self.look(model)
            await asyncio.sleep(LOOK_SECONDS)

    def waiting(self) -> Sequence[str]:
        """Models without a plan."""
        return [m for m in self._commands if m not in self._serving.models()]

    async def look(self, model: str) -> None:
        """Ask for the champion of one model, once."""
        self.messages.setdefault(model, "asking the registry for its champion")
        try:
            # MLflow takes seconds to import and may wait for a lock.
            version = await asyncio.to_thread(self._champion, model)
        except NotFoundError:
            self._say(model, f"no champion yet; run `{self._commands[model]}`")
            return
        except HeliotropeError as error:
            self._say(model, f"the registry must answer: {error}")
            return
        plan = ServingPlan(
            model=model,
            revisions=(Revision(version=version, role=Role.CHAMPION),),
            weights={version: 100},
            at=self._clock.now(),
            reason="first plan: the champion in the registry",
        )
        if self._serving.apply_first(plan):
            self._say(model, f"champion {version} found")

    def _say(self, model: str, message: str) -> None:
        if self.messages.get(model) != message:
            self.messages[model] = message
            logger.info("%s: %s", model, message)
