"""The controller's lock on a cluster: a Lease, which its holder renews and others may take when
it has stood still for too long.

Clocks of different machines are never compared: whoever waits watches the Lease with its own clock
and takes it when nothing of it has changed for as long as it says (as Kubernetes' own leader
election does).
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from heliotrope.adapters.cluster.access import LEASE
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_answers import Object
from heliotrope.errors import ConflictError, HeliotropeError

logger = logging.getLogger("heliotrope.lease")

DURATION_SECONDS = 30
"""Without a renewal, after which another may take it."""
RENEW_SECONDS = 5.0
GIVE_UP_SECONDS = 20.0
"""Without a renewal, after which the holder itself believes to have lost it: before another can."""


def end_process() -> None:
    """Ask this process to end, as the kubelet does: whoever is started next waits for the lock."""
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass
class _Watched:
    """A Lease as it was seen last, and when that was first, by our own clock."""

    version: str
    since: float


class LeaseLock:
    """One Lease, with the interface of `heliotrope.service.controller.Lock`.

    Args:
        kube: Kubernetes' API, as the controller.
        name: of the Lease.
        holder: who we are; the pod's name.
        lost: called once where it was ours and could not be renewed in time: whoever acts must end.
        renew: whether a thread renews it; otherwise `take` must be called often enough.
        monotonic: a clock.
    """

    def __init__(
        self,
        kube: KubeClient,
        name: str,
        holder: str,
        *,
        lost: Callable[[], None] = end_process,
        renew: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube, self._name, self._holder, self._lost = kube, name, holder, lost
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._watched: _Watched | None = None
        self._renewed: float | None = None
        """When it was last known to be ours; None while it is not."""
        self._seen_holder = ""
        self._renews = renew
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> bool:
        """Try to take or renew it; answers whether it is ours.

        Raises:
            UnavailableError: the cluster does not answer, and it is not ours.
        """
        with self._mutex:
            ours = self._take()
        if ours and self._renews and self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
            self._thread.start()
        return ours

    def holder(self) -> str:
        """Who holds it, as far as is known."""
        return self._seen_holder or "another controller"

    def release(self) -> None:
        """Give it back, so that another need not wait; nothing happens if it is not ours."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._thread = None
        with self._mutex:
            if self._renewed is None:
                return
            self._renewed = None
            try:
                found = self._kube.get(LEASE, self._name)
                if found is not None and found["spec"].get("holderIdentity") == self._holder:
                    self._kube.replace(self._lease(found, holder=""), LEASE)
            except HeliotropeError as error:
                # It ends by itself.
                logger.warning("the lease %s could not be given back: %s", self._name, error)

    def _take(self) -> bool:
        now = self._monotonic()
        try:
            found = self._kube.get(LEASE, self._name)
            if found is None:
                made = self._kube.create(self._lease(None, self._holder), LEASE)
                return self._is_ours(made, now)
            if not self._may_take(found, now):
                self._renewed = None
                return False
            return self._is_ours(self._kube.replace(self._lease(found, self._holder), LEASE), now)
        except ConflictError:
            # Another was quicker; the next look tells who.
            return self._still(now)
        except HeliotropeError:
            if self._still(now):
                return True
            self._renewed = None
            raise

    def _may_take(self, found: Object, now: float) -> bool:
        spec = found.get("spec") or {}
        holder = self._seen_holder = str(spec.get("holderIdentity") or "")
        version = str(found["metadata"]["resourceVersion"])
        if self._watched is None or self._watched.version != version:
            self._watched = _Watched(version, now)
        stood = now - self._watched.since
        return holder in ("", self._holder) or stood > spec.get("leaseDurationSeconds", 0)

    def _is_ours(self, made: Object, now: float) -> bool:
        self._watched = _Watched(str(made["metadata"]["resourceVersion"]), now)
        self._renewed, self._seen_holder = now, self._holder
        return True

    def _still(self, now: float) -> bool:
        return self._renewed is not None and now - self._renewed < GIVE_UP_SECONDS

    def _lease(self, found: Object | None, holder: str) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before: dict[str, Any] = (found or {}).get("spec") or {}
        changed = before.get("holderIdentity") != holder
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": now if changed else before.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0)
            + int(changed and found is not None and bool(holder)),
        }
        metadata = {"name": self._name, "namespace": self._kube.namespace}
        if found is not None:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        return {
            "apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec,
        }  # fmt: skip

    def _keep(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            try:
                with self._mutex:
                    ours = self._take()
            except HeliotropeError as error:
                logger.warning("the lease %s is not ours any more: %s", self._name, error)
                ours = False
            if not ours and not self._stop.is_set():
                self._lost()
                return
