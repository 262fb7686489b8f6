"""The Page-Hinkley test: has the mean of a series risen, and by when was that certain?

The `river` library (0.26) has it, and ADWIN, too. It is not used: importing `river.drift` loads scipy and all of
river, 87 MB and more than a second, into a process that serves; and this is all we need of it. With its forgetting
switched off (`alpha=1`, `min_instances=1`) it raises its alarm at the same row.
"""

from __future__ import annotations

from collections.abc import Iterable


def page_hinkley(losses: Iterable[float], delta: float, limit: float) -> int | None:
    """The index at which the alarm rings that the mean of `losses` (oldest first) has risen, None if it does not.

    What each loss has above the mean of all up to it, less `delta`, is added up; the alarm rings once that sum
    stands more than `limit` above the lowest it has been. A rise of the mean by less than `delta` is put up with,
    and one by twice that is heard after about `limit / delta` losses. E. S. Page, "Continuous inspection
    schemes", Biometrika 41 (1954); D. V. Hinkley, "Inference about the change-point from cumulative sum tests",
    Biometrika 58 (1971).

    Args:
        losses: Such as the log-loss of each settled decision.
        delta: How large a rise does not matter, in the unit of the losses, 0 or more.
        limit: How much has to add up, in the unit of the losses, above 0; the higher, the fewer false alarms.

    >>> page_hinkley([1.0] * 50 + [1.5] * 50, delta=0.1, limit=5.0)
    64
    >>> page_hinkley([1.5] * 50 + [1.0] * 50, delta=0.1, limit=5.0) is None
    True
    """
    mean = total = lowest = 0.0
    for index, loss in enumerate(losses):
        mean += (loss - mean) / (index + 1)
        total += loss - mean - delta
        lowest = min(lowest, total)
        if total - lowest > limit:
            return index
    return None
