"""Decimal numbers written one after the other, read as the nearest floats all at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SEPARATOR = " "

_BLANK, _POINT, _ZERO = SEPARATOR.encode()[0], ord("."), ord("0")
_EXACT_BELOW = 2**53
_WIDEST = 18
"""So many characters, the point among them, cannot overflow 64 bits."""

_POWERS_OF_TEN = 10.0 ** np.arange(_WIDEST)


def read_decimals(text: str) -> npt.NDArray[np.float64]:
    """The nearest 64-bit floats of decimals that stand in `text`, a blank between them; shape (n_numbers,).

    Digits below 2**53 and a power of ten up to 1e22 are floats without error, and the quotient of two such is the
    nearest float (Clinger, "How to read floating point numbers accurately", 1990, section 4). Numbers with more
    digits, a sign or an exponent are left to Python, which refuses what is no number (ValueError).

    >>> read_decimals("0.1 65000 123456789012345678.12345678 -1e5").tolist()
    [0.1, 65000.0, 1.2345678901234568e+17, -100000.0]
    """
    characters = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    ends = np.append(np.flatnonzero(characters == _BLANK), characters.size)
    starts = np.concatenate(([0], ends[:-1] + 1))
    points = np.flatnonzero(characters == _POINT)
    number_of_point = np.searchsorted(ends, points)
    decimals = np.zeros(ends.size, dtype=np.int64)
    decimals[number_of_point] = ends[number_of_point] - points - 1
    widths = ends - starts
    digits = _read_digits(characters, starts, np.minimum(widths, _WIDEST))
    numbers: npt.NDArray[np.float64] = digits / _POWERS_OF_TEN[np.minimum(decimals, _WIDEST - 1)]
    points_within = np.bincount(number_of_point, minlength=ends.size)
    is_other = (characters - _ZERO > 9) & (characters != _POINT) & (characters != _BLANK)
    is_hard = (widths > _WIDEST) | (digits >= _EXACT_BELOW) | (points_within > 1) | (widths == points_within)
    is_hard[np.searchsorted(ends, np.flatnonzero(is_other))] = True
    for place in np.flatnonzero(is_hard):
        numbers[place] = float(text[starts[place] : ends[place]])
    return numbers


def _read_digits(
    characters: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], widths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The digits of each number as one whole number; what is no digit is passed over."""
    whole = np.zeros(starts.size, dtype=np.int64)
    for place in range(int(widths.max(initial=0))):
        digit = characters.take(starts + place, mode="clip") - _ZERO  # what stands before "0" becomes 200 and more
        whole = np.where((place < widths) & (digit < 10), 10 * whole + digit, whole)
    return whole
