"""A training run's part in a rollout: it makes the first move, and may wait for the end."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.errors import HeliotropeError
from heliotrope.ports.registry import Registry
from heliotrope.ports.serving import Serving
from heliotrope.service.rollout import RolloutService
from heliotrope.service.rollout_keeping import Judgement
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ALIAS_CHAMPION

POLL_SECONDS = 1.0
_ENDS = {
    RolloutState.PROMOTED: "is champion",
    RolloutState.ROLLED_BACK: "was rolled back",
    RolloutState.ABORTED: "was taken back",
}


def deploy_candidate(
    spec: ModelSpec,
    version: str,
    cause: str,
    registry: Registry,
    rollouts: Callable[[], RolloutService],
    serving: Callable[[], Serving],
    now: datetime,
) -> str:
    """Record a registered version's rollout and ask for it to be run; answers what was done.

    A training must end well where no platform is up or the state's database is away: the candidate
    then waits, and the controller opens its rollout when it next looks at the registry's alias.
    """
    waits = f"version {version} is a candidate and waits for a rollout"
    try:
        champion = registry.by_alias(spec.name, ALIAS_CHAMPION)
        if champion is None or champion.version == version:
            return f"version {version} is the first champion: it is served without a rollout"
        service = rollouts()
        rollout = service.open_rollout(spec, version, cause, now)
        if rollout is None:
            return f"{waits}: another is under way, and the controller decides between them"
        if not rollout.over:
            service.enforce(rollout)
        told = f"rollout {rollout.number} of version {version} against champion {champion.version}"
        return told + _waiting(spec.name, serving)
    except HeliotropeError as error:
        return f"{waits}: {error}"


def _waiting(model: str, serving: Callable[[], Serving]) -> str:
    try:
        serving().observe(model)
    except HeliotropeError as error:
        return f"; it waits for a platform: {error}"
    return ""


def await_rollout(
    spec: ModelSpec,
    version: str,
    deployed: str,
    rollouts: Callable[[], RolloutService],
    serving: Callable[[], Serving],
    now: Callable[[], datetime],
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[str, str]:
    """Where the spec says so, wait for a rollout's end; answers it in a line and as Markdown.

    Waits no longer than all steps may last, in the clock of the loop, and not at all where nobody
    would move the rollout.

    Args:
        spec: of the model.
        version: the candidate.
        deployed: what `deploy_candidate` answered.
        rollouts: opens the service.
        serving: says whether a platform is up.
        now: the clock.
        sleep: real seconds between two looks.
    """
    if not spec.rollout.wait:
        line = f"not waited for; `heliotrope rollout status {spec.name}` tells how it goes on"
        return line, f"# Rollout of {spec.name} version {version}\n\n{deployed}\n\n{line}\n"
    policy = spec.rollout
    most = (len(policy.steps) + 2) * policy.step_timeout + policy.bake + timedelta(hours=1)
    until = now() + most
    rollout: Rollout | None = None
    judged: Judgement | None = None
    try:
        book = rollouts().book
        while True:
            found = [k.rollout for k in book.all(spec.name) if k.rollout.candidate == version]
            rollout = found[0] if found else None
            judged = book.judgement(spec.name)
            if rollout is None or rollout.over or now() >= until:
                break
            serving().observe(spec.name)
            sleep(POLL_SECONDS)
    except HeliotropeError as error:
        line = f"version {version} waits for a rollout: {error}"
        return line, _markdown(spec.name, version, rollout, judged, line)
    if rollout is None:
        line = f"version {version} has no rollout"
    elif rollout.over:
        line = f"version {version} {_ENDS[rollout.state]}: {rollout.reason}"
    else:
        line = f"version {version} is still {rollout.state} after {most}"
    return line, _markdown(spec.name, version, rollout, judged, line)


def _markdown(
    model: str, version: str, rollout: Rollout | None, judged: Judgement | None, line: str
) -> str:
    lines = [f"# Rollout of {model} version {version}", "", line, ""]
    if rollout is not None:
        facts = {
            "rollout": rollout.number,
            "state": rollout.state,
            "against champion": rollout.champion,
            "opened": f"{rollout.opened_at:%Y-%m-%d %H:%M} UTC",
            "last change": f"{rollout.entered_at:%Y-%m-%d %H:%M} UTC",
            "promoted by force by": rollout.forced_by,
        }
        lines += [f"- **{name}**: {value}" for name, value in facts.items() if value is not None]
    if rollout is not None and judged is not None and judged.number == rollout.number:
        lines += ["", "| verdict | check | in numbers |", "|---|---|---|"]
        for check in judged.checks:
            text = check.text.replace("|", "\\|")
            lines.append(f"| {check.verdict} | {check.check} | {text} |")
    return "\n".join(lines) + "\n"
