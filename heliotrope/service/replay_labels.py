"""Sends a replay's labels to the collector in uploads, each until it is acknowledged."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from heliotrope.domain.label_formats import UploadFormat
from heliotrope.domain.replay import DueLabel
from heliotrope.errors import UnavailableError, UsageError
from heliotrope.service.label_sending import LabelClient
from heliotrope.service.replay_counts import ReplayCounts, reason_of

UPLOAD_ROWS = 5000
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 2.0
_HOPELESS = (400, 401, 403, 413, 415)


class ReplayLabels:
    """One upload at a time; an upload is sent again under the same key, so none is taken twice.

    Args:
        client: reaches the collector.
        model: of all labels.
        field: what a label's key is: `prediction_id` or `entity_key`.
        name: of the replay, part of the uploads' keys.
        counts: where labels are counted.
        give_up: asked while the collector is silent, with the seconds that it is; True ends it.
    """

    def __init__(
        self,
        client: LabelClient,
        model: str,
        field: str,
        name: str,
        counts: ReplayCounts,
        give_up: Callable[[float], bool],
    ) -> None:
        self._client, self._model, self._field, self._name = client, model, field, name
        self._counts, self._give_up = counts, give_up
        self._uploads = 0
        self.in_hand: list[DueLabel] = []
        """Handed over and not yet acknowledged."""

    def rows(self, labels: Sequence[DueLabel]) -> list[dict[str, Any]]:
        """Labels as the collector takes them."""
        return [
            {
                self._field: label.key,
                "label": label.label,
                "happened_at": label.moment.isoformat(),
            }
            for label in labels
        ]

    async def send(self, labels: list[DueLabel]) -> None:
        """Send some labels; returns when they are in the store or refused for good.

        Raises:
            UnavailableError: the collector stayed silent until `give_up`.
            UsageError: it takes nothing from us, whatever we send.
        """
        self.in_hand = labels
        self._uploads += 1
        body = json.dumps(self.rows(labels)).encode()
        key = f"{self._name}-{self._uploads}"
        pause, began, trouble = _FIRST_PAUSE, time.monotonic(), ""
        while True:
            reply: Any = None
            try:
                reply = await asyncio.to_thread(
                    self._client.send_labels, body, UploadFormat.JSON, self._model, key
                )
            except UnavailableError as error:
                trouble = str(error)
            if reply is not None:
                if reply.status in (200, 422):
                    self._taken(reply.value)
                    return
                trouble = f"HTTP {reply.status}: {reply.error}"
                if reply.status in _HOPELESS:
                    raise UsageError(f"The collector must take the labels. {trouble}")
                pause = max(pause, reply.retry_after or 0.0)
            if self._give_up(time.monotonic() - began):
                raise UnavailableError(f"The collector must take labels. {trouble}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _taken(self, value: Any) -> None:
        self.in_hand = []
        self._counts.labels_sent += value["accepted"]
        reasons = Counter(reason_of(refusal["reason"]) for refusal in value["refusals"])
        self._counts.labels_refused += reasons
        unsaid = value["refused"] - reasons.total()
        if unsaid:
            self._counts.labels_refused["other"] += unsaid
