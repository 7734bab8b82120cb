"""The KFP experiment that holds Heliotrope's runs."""

from heliotrope.adapters.cluster.kfp_link import KfpLink, equals
from heliotrope.errors import ConflictError, NotFoundError


class KfpExperiment:
    """One experiment by name; looked up once, since its id never changes.

    Args:
        link: to KFP.
    """

    def __init__(self, link: KfpLink) -> None:
        self._link = link
        self._known: str | None = None

    def find(self) -> str | None:
        """Its id; None where it is not there."""
        if self._known is None:
            options = self._link.options
            params = {"filter": equals("display_name", options.experiment)}
            if options.namespace:
                params["namespace"] = options.namespace
            for one in self._link.pages("/experiments", "experiments", params):
                if one.get("display_name") == options.experiment:
                    self._known = str(one["experiment_id"])
                    break
        return self._known

    def ensure(self) -> str:
        """Its id; made where it is not there. Two who make it at once agree on one."""
        found = self.find()
        if found is not None:
            return found
        options = self._link.options
        body = {
            "display_name": options.experiment,
            "description": "Runs that Heliotrope starts.",
        } | ({"namespace": options.namespace} if options.namespace else {})
        try:
            made = self._link.post("/experiments", body, repeatable=True)
        except ConflictError:
            found = self.find()
            if found is None:
                raise NotFoundError(
                    f"The experiment {options.experiment} must be listed once it is there. "
                    f"KFP at {options.url} says that it is there, and does not list it."
                ) from None
            return found
        self._known = str(made["experiment_id"])
        return self._known
