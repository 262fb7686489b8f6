"""Three books beside the account, so that "is it any good" has something to be compared with.

They are fed with the account's own *cycles* (time, symbol, quote, what one side of a trade costs) and with its *fills*,
in the order in which they came, and are computed from that record, not stored. They know no lots and no least notional.

- Always flat: the initial cash for ever.
- Buy-and-hold: an equal share of every symbol seen so far. It buys a symbol at its first cycle. Of each of the n - 1
  symbols it holds it then sells one part in n, at their newest quotes and costs, and buys the new one with all the
  cash there is; both sides pay. It never trades otherwise.
- Random: as many fills as the account, of the same sizes, at times and on sides that mean nothing. Each fill of the
  account puts a ticket, its notional as a fraction of the account's equity, into the symbol's urn. At each later cycle
  of that symbol every waiting ticket is drawn with a chance of 1 in 10. A drawn ticket buys that fraction of this
  book's equity, or what its cash is enough for, if it holds nothing of the symbol; else it sells all it holds of it.
  Both pay. A ticket that finds no cash at all goes back into the urn. Long only.

Whatever a book does at a cycle rests on that cycle and earlier events alone. The same events and seed give the same
books, whether they are fed as they come or all at once.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from ml.bars import FloatArray, IntegerArray

_CHANCE: Final = 0.1
"""How likely a waiting ticket is drawn at each cycle of its symbol."""

_CHANGES_PER_SUM: Final = 1_000
"""After so many changes holdings are added up anew, so that rounding errors do not."""


@dataclass(frozen=True, slots=True, eq=False)
class ShadowCurves:
    """What each book was worth after each cycle, quote units, all of shape (n_cycles,)."""

    times_ms: IntegerArray
    always_flat: FloatArray
    buy_and_hold: FloatArray
    random: FloatArray


class ShadowBooks:
    """The three books, fed event by event.

    Args:
        initial_cash: What each is opened with, quote units, above 0.
        seed: Fixes how long the tickets of the random book wait.

    >>> books = ShadowBooks(100.0, seed=1)
    >>> books.add_cycle(0, "BTCUSDT", 50.0, 0.0)
    >>> books.add_fill("BTCUSDT", 0.25)
    >>> books.add_cycle(60_000, "BTCUSDT", 55.0, 0.0)
    >>> books.curves().buy_and_hold.tolist(), books.curves().always_flat.tolist()
    ([100.0, 110.0], [100.0, 100.0])
    """

    def __init__(self, initial_cash: float, seed: int) -> None:
        if not (math.isfinite(initial_cash) and initial_cash > 0):
            raise ValueError("initial_cash must be above 0")
        self._initial_cash = initial_cash
        self._quotes: dict[str, float] = {}
        self._side_costs: dict[str, float] = {}
        self._buy_and_hold = _Book(initial_cash, self._quotes)
        self._random = _Book(initial_cash, self._quotes)
        self._urn = _Urn(seed)
        self._random_fills = 0
        self._times_ms = array("q")
        self._buy_and_hold_equity = array("d")
        self._random_equity = array("d")

    @property
    def random_fills(self) -> int:
        """How many fills the random book has made, never more than the account."""
        return self._random_fills

    def add_cycle(self, time_ms: int, symbol: str, quote: float, side_cost: float) -> None:
        """Let a cycle of the account happen to the books.

        Args:
            time_ms: Milliseconds since the epoch, not before the last cycle.
            symbol: What was looked at.
            quote: Its price, above 0.
            side_cost: Fee and slippage of one side of a trade, as a fraction of its notional, from 0 to below 1.
        """
        if not (0.0 < quote < math.inf and 0.0 <= side_cost < 1.0):
            raise ValueError("a quote must be above 0, and side_cost from 0 to below 1")
        if self._times_ms and time_ms < self._times_ms[-1]:
            raise ValueError("cycles must come in the order of time")
        known = self._quotes.get(symbol)
        self._quotes[symbol] = quote
        self._side_costs[symbol] = side_cost
        if known is None:
            self._take_in(symbol)
        else:
            self._buy_and_hold.mark(symbol, quote - known)
            self._random.mark(symbol, quote - known)
        for fraction in self._urn.draw(symbol):
            self._trade_at_random(symbol, fraction)
        self._times_ms.append(time_ms)
        self._buy_and_hold_equity.append(self._buy_and_hold.equity)
        self._random_equity.append(self._random.equity)

    def add_fill(self, symbol: str, fraction: float) -> None:
        """Note a fill of the account, after the cycle it belongs to.

        Args:
            symbol: What was bought or sold.
            fraction: Its notional as a fraction of the account's equity, above 0.
        """
        if not 0.0 < fraction < math.inf:
            raise ValueError("fraction must be above 0")
        self._urn.add(symbol, fraction)

    def curves(self) -> ShadowCurves:
        """What each book was worth after each cycle so far; the arrays are copies."""
        return ShadowCurves(
            np.array(self._times_ms, dtype=np.int64),
            np.full(len(self._times_ms), self._initial_cash),
            np.array(self._buy_and_hold_equity, dtype=np.float64),
            np.array(self._random_equity, dtype=np.float64),
        )

    def _take_in(self, symbol: str) -> None:
        book, share = self._buy_and_hold, 1.0 / len(self._quotes)
        for held in book.held():
            book.sell(held, share, self._side_costs[held])
        book.buy(symbol, book.cash, self._side_costs[symbol])

    def _trade_at_random(self, symbol: str, fraction: float) -> None:
        book, side_cost = self._random, self._side_costs[symbol]
        if book.holds(symbol):
            book.sell(symbol, 1.0, side_cost)
        elif (outlay := min(fraction * book.equity * (1.0 + side_cost), book.cash)) > 0.0:
            book.buy(symbol, outlay, side_cost)
        else:
            self._urn.add(symbol, fraction)
            return
        self._random_fills += 1


class _Book:
    """Cash and holdings at the newest quotes, long only.

    What the holdings are worth is a running sum, since a cycle changes one of what may be 500 prices.
    """

    def __init__(self, cash: float, quotes: Mapping[str, float]) -> None:
        self.cash = cash
        self._quotes = quotes
        self._units: dict[str, float] = {}
        self._worth = 0.0
        self._changes = 0

    @property
    def equity(self) -> float:
        return self.cash + self._worth

    def held(self) -> list[str]:
        return list(self._units)

    def holds(self, symbol: str) -> bool:
        return symbol in self._units

    def mark(self, symbol: str, change: float) -> None:
        """Take in that the quote of `symbol` has moved by `change`."""
        units = self._units.get(symbol)
        if units is not None:
            self._add(units * change)

    def buy(self, symbol: str, outlay: float, side_cost: float) -> None:
        """Spend `outlay`, cost included, on a symbol that is not held."""
        bought = outlay / (1.0 + side_cost)
        self.cash -= outlay
        self._units[symbol] = bought / self._quotes[symbol]
        self._add(bought)

    def sell(self, symbol: str, share: float, side_cost: float) -> None:
        """Sell a share of what is held of `symbol`."""
        units = self._units.pop(symbol)
        sold = units * share * self._quotes[symbol]
        self.cash += sold * (1.0 - side_cost)
        if share < 1.0:
            self._units[symbol] = units * (1.0 - share)
        self._add(-sold)

    def _add(self, worth: float) -> None:
        self._worth += worth
        self._changes += 1
        if self._changes % _CHANGES_PER_SUM == 0 or not self._units:
            self._worth = math.fsum(units * self._quotes[symbol] for symbol, units in self._units.items())


class _Urn:
    """Tickets that wait, each for a number of cycles of its symbol that is drawn when it is put in.

    To be drawn with the same chance at every cycle is to wait for a number of cycles that is geometrically distributed.
    It is found by inversion, of one uniform number for each ticket (L. Devroye, Non-Uniform Random Variate Generation,
    1986, chapter X.2).
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._cycles: defaultdict[str, int] = defaultdict(int)
        self._due: defaultdict[str, dict[int, list[float]]] = defaultdict(dict)

    def add(self, symbol: str, fraction: float) -> None:
        number = self._cycles[symbol] + 1 + int(math.log1p(-self._random.random()) / math.log1p(-_CHANCE))
        self._due[symbol].setdefault(number, []).append(fraction)

    def draw(self, symbol: str) -> list[float]:
        """Begin a cycle of `symbol` and take out the tickets that are drawn at it, in the order they came."""
        self._cycles[symbol] += 1
        return self._due[symbol].pop(self._cycles[symbol], [])
