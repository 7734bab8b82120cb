"""Recurring runs in KFP: made, replaced where anything differs, left alone where nothing does.

KFP has no update, and display names are not unique. So what is there is listed and compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from heliotrope.adapters.cluster.kfp_experiment import KfpExperiment
from heliotrope.adapters.cluster.kfp_link import KfpLink, equals
from heliotrope.adapters.cluster.kfp_pipelines import PipelineVersion
from heliotrope.service.recurring import Recurring


class ScheduleAction(StrEnum):
    """What an upsert does to one recurring run."""

    NONE = "none"
    """It is as it should be."""
    CREATE = "create"
    """There is none of this name."""
    REPLACE = "replace"
    """One is there and differs."""
    ENABLE = "enable"
    """It is as it should be, but was switched off."""
    TIDY = "tidy"
    """It is as it should be, and others of its name are not."""


@dataclass(frozen=True)
class SchedulePlan:
    """What an upsert would do, and why."""

    recurring: Recurring
    version: PipelineVersion
    action: ScheduleAction
    differences: tuple[str, ...] = ()
    """For a person: `cron: 0 0 6 * * * -> 0 0 7 * * *`."""
    keep: str | None = None
    """Id of the one that stays."""
    remove: tuple[str, ...] = ()
    """Ids of those that go."""


class KfpSchedules:
    """The recurring runs of one KFP's experiment.

    Args:
        link: to it.
    """

    def __init__(self, link: KfpLink) -> None:
        self._link, self._experiment = link, KfpExperiment(link)

    def plan(self, recurring: Recurring, version: PipelineVersion) -> SchedulePlan:
        """Compare what is there with what should be; changes nothing.

        Args:
            recurring: what should be.
            version: of the pipeline that it should run.
        """
        found = self.named(recurring.name)
        wanted = self._body(recurring, version, "")
        told = [(one, _differences(one, wanted)) for one in found]
        same = next((one for one, differs in told if not differs), None)
        if same is None:
            action = ScheduleAction.REPLACE if found else ScheduleAction.CREATE
            differs = told[0][1] if told else ()
            gone = tuple(_id(one) for one in found)
            return SchedulePlan(recurring, version, action, differs, None, gone)
        rest = tuple(_id(one) for one in found if one is not same)
        action = ScheduleAction.TIDY if rest else ScheduleAction.NONE
        if same.get("status") == "DISABLED":
            action = ScheduleAction.ENABLE
        return SchedulePlan(recurring, version, action, (), _id(same), rest)

    def apply(self, plan: SchedulePlan) -> None:
        """Do what a plan says; may be called any number of times.

        The new one is made before the old one goes, so that one KFP refuses leaves the old at work.

        Raises:
            UnavailableError: KFP does not answer; planning and applying again is safe.
            UsageError: KFP refuses the schedule.
        """
        if plan.action in (ScheduleAction.CREATE, ScheduleAction.REPLACE):
            body = self._body(plan.recurring, plan.version, self._experiment.ensure())
            self._link.post("/recurringruns", body)
        if plan.action is ScheduleAction.ENABLE:
            self._link.post(f"/recurringruns/{plan.keep}:enable", repeatable=True)
        for gone in plan.remove:
            self._link.delete(f"/recurringruns/{gone}")
        if plan.action in (ScheduleAction.CREATE, ScheduleAction.REPLACE):
            # Another may have made the same at the same moment: the elder stays.
            for gone in self.plan(plan.recurring, plan.version).remove:
                self._link.delete(f"/recurringruns/{gone}")

    def upsert(self, recurring: Recurring, version: PipelineVersion) -> SchedulePlan:
        """Plan and apply; answers what was done."""
        plan = self.plan(recurring, version)
        self.apply(plan)
        return plan

    def named(self, name: str) -> list[dict[str, Any]]:
        """Every recurring run of this name in the experiment, the eldest first."""
        experiment = self._experiment.find()
        if experiment is None:
            return []
        params = {"experiment_id": experiment, "filter": equals("display_name", name)}
        if self._link.options.namespace:
            params["namespace"] = self._link.options.namespace
        found = self._link.pages("/recurringruns", "recurringRuns", params)
        same = [one for one in found if one.get("display_name") == name]
        return sorted(same, key=lambda one: (str(one.get("created_at", "")), _id(one)))

    def delete(self, name: str) -> int:
        """Remove every recurring run of this name; answers how many there were."""
        return sum(self._link.delete(f"/recurringruns/{_id(one)}") for one in self.named(name))

    def disable(self, name: str) -> int:
        """Switch off every recurring run of this name; answers how many were on."""
        on = [one for one in self.named(name) if one.get("status") != "DISABLED"]
        for one in on:
            self._link.post(f"/recurringruns/{_id(one)}:disable", repeatable=True)
        return len(on)

    def _body(
        self, recurring: Recurring, version: PipelineVersion, experiment: str
    ) -> dict[str, Any]:
        account = self._link.options.service_account
        return {
            "display_name": recurring.name,
            "description": recurring.description,
            "experiment_id": experiment,
            "pipeline_version_reference": version.reference,
            "runtime_config": {"parameters": dict(recurring.parameters)},
            "trigger": _trigger(recurring),
            "max_concurrency": str(recurring.max_concurrency),
            "no_catchup": True,
            "mode": "ENABLE",
            **({"service_account": account} if account else {}),
        }


def _trigger(recurring: Recurring) -> dict[str, Any]:
    if recurring.cron is not None:
        return {"cron_schedule": {"cron": recurring.cron}}
    return {"periodic_schedule": {"interval_second": str(recurring.every_seconds)}}


def _id(found: Mapping[str, Any]) -> str:
    return str(found["recurring_run_id"])


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, ...]:
    pairs = {
        "trigger": (_moment(found.get("trigger")), _moment(wanted["trigger"])),
        "version": (
            (found.get("pipeline_version_reference") or {}).get("pipeline_version_id"),
            wanted["pipeline_version_reference"]["pipeline_version_id"],
        ),
        "max_concurrency": (str(found.get("max_concurrency")), wanted["max_concurrency"]),
        "no_catchup": (bool(found.get("no_catchup")), wanted["no_catchup"]),
    }
    if "service_account" in wanted:
        pairs["service_account"] = (found.get("service_account"), wanted["service_account"])
    before = (found.get("runtime_config") or {}).get("parameters") or {}
    after = wanted["runtime_config"]["parameters"]
    told = [
        f"{name}: {was} -> {becomes}" for name, (was, becomes) in pairs.items() if was != becomes
    ]
    # A spec is a page of text: that it changed is all that fits into a line.
    told += [
        f"parameter {name} changed"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    return tuple(told)


def _moment(trigger: Mapping[str, Any] | None) -> str:
    trigger = trigger or {}
    cron = (trigger.get("cron_schedule") or {}).get("cron")
    if cron:
        return f"cron {cron}"
    return f"every {(trigger.get('periodic_schedule') or {}).get('interval_second')} s"
