"""Group commit: few commits for many requests, in order, within bounds; and who may write."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from heliotrope.errors import UsageError
from heliotrope.service.group_commit import ByteBudget, Lane
from heliotrope.service.tokens import Access, Scope, TokenRing


class Commits:
    """Answers each item with itself and the number of its commit."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.broken = False

    def __call__(self, items: Sequence[int]) -> list[tuple[int, int]]:
        self.may_go.wait(10)
        if self.broken:
            raise OSError("the disk is gone")
        self.groups.append(list(items))
        return [(item, len(self.groups)) for item in items]


def test_what_arrives_while_a_commit_runs_shares_the_next_one() -> None:
    async def scenario() -> None:
        commits = Commits()
        commits.may_go.clear()
        with ThreadPoolExecutor(1) as threads:
            lane: Lane[int, tuple[int, int]] = Lane(commits, 0.0, 1000, threads)
            first = lane.submit(0, 1)
            await asyncio.sleep(0)
            others = [lane.submit(n, 1) for n in range(1, 50)]
            commits.may_go.set()
            answers = await asyncio.gather(first, *others)
        assert [item for item, _ in answers] == list(range(50))
        assert [n for group in commits.groups for n in group] == list(range(50))
        assert len(commits.groups) <= 2

    asyncio.run(scenario())


def test_a_commit_takes_no_more_than_its_bytes_other_than_one_item() -> None:
    async def scenario() -> None:
        commits = Commits()
        with ThreadPoolExecutor(1) as threads:
            lane: Lane[int, tuple[int, int]] = Lane(commits, 0.0, 10, threads)
            sizes = [4, 4, 4, 25, 1]
            await asyncio.gather(*(lane.submit(n, size) for n, size in enumerate(sizes)))
        assert commits.groups == [[0, 1], [2], [3], [4]]

    asyncio.run(scenario())


def test_a_failed_commit_answers_everybody_in_it_and_the_lane_goes_on() -> None:
    async def scenario() -> None:
        commits = Commits()
        commits.broken = True
        with ThreadPoolExecutor(1) as threads:
            lane: Lane[int, tuple[int, int]] = Lane(commits, 0.0, 1000, threads)
            failed = await asyncio.gather(
                *(lane.submit(n, 1) for n in range(3)), return_exceptions=True
            )
            assert all(isinstance(error, OSError) for error in failed)
            commits.broken = False
            assert (await lane.submit(7, 1))[0] == 7

    asyncio.run(scenario())


def test_a_request_that_is_given_up_does_not_disturb_the_others() -> None:
    async def scenario() -> None:
        commits = Commits()
        commits.may_go.clear()
        with ThreadPoolExecutor(1) as threads:
            lane: Lane[int, tuple[int, int]] = Lane(commits, 0.0, 1000, threads)
            gone, stays = lane.submit(1, 1), lane.submit(2, 1)
            gone.cancel()
            commits.may_go.set()
            assert (await stays)[0] == 2

    asyncio.run(scenario())


def test_a_budget_refuses_what_does_not_fit_and_takes_it_after_a_release() -> None:
    budget = ByteBudget(100)
    assert budget.reserve(60)
    assert not budget.reserve(41)
    assert budget.used == 60
    budget.release(60)
    assert budget.reserve(100)


RING = TokenRing.parse(
    ["# people", "all-all-all-all-all", "", "ship-ship-ship-ship spools"], "tokens"
)


@pytest.mark.parametrize(
    ("shown", "scope", "access"),
    [
        (b"Bearer all-all-all-all-all", Scope.LABELS, Access.GRANTED),
        (b"bearer ship-ship-ship-ship", Scope.SPOOLS, Access.GRANTED),
        (b"Bearer ship-ship-ship-ship", Scope.LABELS, Access.FORBIDDEN),
        (b"Bearer ship-ship-ship-ship", None, Access.GRANTED),
        (b"Bearer ship-ship-ship-shi", Scope.SPOOLS, Access.UNKNOWN),
        (b"Basic all-all-all-all-all", Scope.SPOOLS, Access.UNKNOWN),
        (b"Bearer ", None, Access.UNKNOWN),
        (None, None, Access.UNKNOWN),
    ],
)
def test_a_token_opens_what_its_scopes_say(
    shown: bytes | None, scope: Scope | None, access: Access
) -> None:
    assert RING.access(shown, scope) is access


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["# none"], "must hold a token"),
        (["short"], "16 characters or more. Got 5"),
        (["long-enough-for-a-token everything"], "a scope must be one of spools, labels"),
    ],
)
def test_bad_token_files_are_refused_without_quoting_them(lines: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        TokenRing.parse(lines, "tokens")
    assert "long-enough" not in str(refused.value)
    assert "everything" not in str(refused.value)


def test_a_ring_shows_no_token() -> None:
    assert "all-all" not in repr(RING)
