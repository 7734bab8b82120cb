"""Who gets traffic now, of those who should: pure."""

from collections.abc import Mapping, Set


def split_now(
    wanted: Mapping[str, int], ready: Set[str], last: Mapping[str, int]
) -> dict[str, int]:
    """Per cent by version that the gateway should split by at this moment.

    The plan's weights, shared out among its versions that answer: a canary that crashed gives its
    share back until it is up again. Where none of them answers, the last split stays, as its
    versions may still be there, and as a request is held for one that is being started again.

    Args:
        wanted: the plan's, adding up to 100.
        ready: versions that answer.
        last: what this function said before.

    >>> split_now({"1": 90, "2": 10}, {"1", "2"}, {})
    {'1': 90, '2': 10}
    >>> split_now({"1": 50, "2": 40, "3": 10}, {"1", "3"}, {})
    {'1': 83, '3': 17}
    >>> split_now({"2": 100}, {"1"}, {"1": 100})
    {'1': 100}
    """
    here = {version: weight for version, weight in wanted.items() if weight and version in ready}
    if not here:
        return dict(last)
    total = sum(here.values())
    shares = {version: weight * 100 // total for version, weight in here.items()}
    # What rounding down has left goes to the largest remainders, so that the sum is 100.
    left = 100 - sum(shares.values())
    for version in sorted(here, key=lambda one: (-(here[one] * 100 % total), one))[:left]:
        shares[version] += 1
    return {version: share for version, share in shares.items() if share}
