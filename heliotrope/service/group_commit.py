"""Many small requests, one commit: a commit a table at a time, no more often than an interval.

The first request after a pause is committed at once; those that arrive while a commit runs, or
before the interval is over, share the next one. So a lone request is quick, and a thousand a
second cost a few commits. Bytes that wait are bounded over all tables.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class ByteBudget:
    """How many bytes may wait; used on one event loop."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def reserve(self, size: int) -> bool:
        """Take bytes, or answer False when they are not free."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        """Give bytes back."""
        self.used -= size


class Lane(Generic[Item, Answer]):
    """The commits of one table, one after another.

    Args:
        commit: writes items in order and answers each; runs on the executor.
        interval: seconds between the starts of two commits, at least.
        max_bytes: a commit takes no more than this, other than a single item.
        executor: where commits run.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Sequence[Answer]],
        interval: float,
        max_bytes: int,
        executor: Executor,
    ) -> None:
        self._commit = commit
        self._interval = interval
        self._max_bytes = max_bytes
        self._executor = executor
        self._waiting: list[tuple[Item, int, asyncio.Future[Answer]]] = []
        self._bytes = 0
        self._worker: asyncio.Task[None] | None = None
        self._full = asyncio.Event()
        self._next_at = 0.0

    def submit(self, item: Item, size: int) -> "asyncio.Future[Answer]":
        """Queue an item; the future holds its answer once it is committed."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, size, future))
        self._bytes += size
        if self._bytes >= self._max_bytes:
            self._full.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return future

    async def _work(self) -> None:
        try:
            while self._waiting:
                pause = self._next_at - time.monotonic()
                if pause > 0 and not self._full.is_set():
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._full.wait(), pause)
                self._next_at = time.monotonic() + self._interval
                await self._commit_some()
        finally:
            self._worker = None

    async def _commit_some(self) -> None:
        taken, size = 0, 0
        for _, item_size, _ in self._waiting:
            if taken and size + item_size > self._max_bytes:
                break
            taken, size = taken + 1, size + item_size
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._bytes -= size
        if self._bytes < self._max_bytes:
            self._full.clear()
        loop = asyncio.get_running_loop()
        items = [item for item, _, _ in group]
        try:
            answers = await loop.run_in_executor(self._executor, self._commit, items)
        except BaseException as error:
            for _, _, future in group:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, _, future), answer in zip(group, answers, strict=True):
            if not future.done():
                future.set_result(answer)
