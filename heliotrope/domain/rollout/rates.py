"""Is a share above its limit? Always-valid, from counts alone."""

import math


def log_e_rate_above(count: int, total: int, limit: float) -> float:
    """Logarithm of an e-value against "each fails with a chance of at most `limit`".

    The likelihood ratio of every higher chance to the limit, averaged over all of them evenly: a
    mixture of supermartingales, so one may look after every request (Robbins 1970). With a limit
    of 0 a single failure is enough.

    >>> log_e_rate_above(0, 1000, 0.01) < 0
    True
    >>> log_e_rate_above(3, 3, 0.01) > math.log(100)
    True
    """
    if count == 0 and total == 0:
        return 0.0
    if limit <= 0:
        return math.inf if count else 0.0
    if limit >= 1:
        return 0.0
    from scipy.special import betainc, betaln

    a, b = count + 1.0, total - count + 1.0
    tail = float(betainc(b, a, 1 - limit))  # the chance beyond the limit, without cancellation
    if tail <= 0:
        return -math.inf
    likelihood = count * math.log(limit) + (total - count) * math.log1p(-limit)
    return float(betaln(a, b)) + math.log(tail) - math.log1p(-limit) - likelihood
