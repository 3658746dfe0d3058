"""Exact intervals of a proportion: so many of so many images (Clopper and Pearson, Biometrika 26, 1934)."""

from __future__ import annotations

LEVEL = 0.95


def clopper_pearson(count: int, of: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a proportion: it covers the true one in at least `level` of all samples.

    Where images have proportions of their own (a threshold a class), it is of their mean, and no narrower than needed:
    the count then varies less than a binomial one (Hoeffding, Ann. Math. Stat. 27, 1956).

    Args:
        count: images of a kind, 0 to `of`.
        of: images that could have been of it; of none nothing is known, [0, 1].
        level: in (0, 1).

    Raises:
        ValueError: `count` is not within 0 to `of`, or `level` not within (0, 1).
    """
    from scipy.special import betaincinv

    if not (0 <= count <= of and 0 < level < 1):
        raise ValueError(f"{count} of {of} at level {level}: expected a count up to its total, and a level in (0, 1)")
    tail = (1 - level) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return low, high


def beyond(above: int, calibrated: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of the share of all normal images above a threshold, told by those that it was set on alone.

    A threshold that is the (n - k)-th lowest of n scores lets a share through that is distributed as
    Beta(k + 1, n - k), whatever the scores' distribution (order statistics; ties let through less).

    Args:
        above: k, scores above the threshold, 0 to n - 1.
        calibrated: n, scores that it was set on, at least 1.
        level: in (0, 1).
    """
    from scipy.special import betaincinv

    if not (0 <= above < calibrated and 0 < level < 1):
        raise ValueError(f"{above} of {calibrated} above the threshold, which is one of them")
    tail = (1 - level) / 2
    low, high = betaincinv(above + 1, calibrated - above, [tail, 1 - tail])
    return float(low), float(high)
