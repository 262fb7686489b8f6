"""How good probabilities were out of sample, beside baselines on the same rows. Imported for training only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ml.bars import FloatArray, IntegerArray
from ml.bootstrap import BlockBootstrap, Estimate
from ml.labels import BUY, CLASSES, HOLD, LEAST_PROBABILITY, SELL, LabelArray
from ml.paper import compute_net_returns, hold_positions

LEAST_BLOCKS: Final = 30
"""With fewer independent blocks of rows nothing is claimed."""

SIGNIFICANCE: Final = 0.05
"""The probability of an edge claimed by luck, over all candidates tried."""

BASELINES: Final = ("class_prior", "always_hold", "last_label", "buy_and_hold", "random")

_N = len(CLASSES)
_BINS = 10
_GATES = (0.35, 0.40, 0.45, 0.50, 0.60)
_LOSS, _BRIER, _NET, _TRADED, _ONE = range(_N * _N, _N * _N + 5)
_RANDOM_RULES = 20
_BASIS_POINTS = 10_000.0


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Rows that were predicted without having taught, in the order of time; arrays of shape (n_rows,).

    Attributes:
        probabilities: What the model said, shape (n_rows, 3).
        priors: The shares of the classes among the rows that had taught it, shape (n_rows, 3).
        labels: What came true.
        last_labels: What had come true of the newest row of the same series whose label was settled; HOLD before.
        series: A number for each run of candles without a gap.
        next_returns: What holding earns until the next row, a fraction.
        side_costs: What one side of a trade costs, a fraction.
        overlap_rows: Over how many rows labels overlap: the horizon, times the number of symbols.
        allowed: Whether what the gate asks besides confidence is there; None where it asks nothing else.
    """

    probabilities: FloatArray
    priors: FloatArray
    labels: LabelArray
    last_labels: LabelArray
    series: IntegerArray
    next_returns: FloatArray
    side_costs: FloatArray
    overlap_rows: int
    allowed: npt.NDArray[np.bool_] | None = None

    def gate(self, min_confidence: float) -> LabelArray:
        """What the gate lets pass of the model's words: BUY or SELL, else HOLD."""
        signals = gate_signals(self.probabilities, min_confidence)
        return signals if self.allowed is None else np.where(self.allowed, signals, HOLD).astype(np.int8)

    def __len__(self) -> int:
        return len(self.labels)


def evaluate(judged: Judged, min_confidence: float, candidates: int = 1, seed: int = 0) -> dict[str, Any]:
    """Judge a model by what came true.

    Args:
        judged: What it said, and what came.
        min_confidence: The least probability, 0 to 1, that the gate lets pass.
        candidates: How many models were tried on this market, this one among them.
        seed: Fixes the resampling and the random baseline.

    Returns:
        JSON-ready. A number that is uncertain is {"value", "low", "high"}, the interval holding it with 95 %.
        `competitors` has a line for the model and for each of `BASELINES`; `skill` is 1 - log-loss / log-loss of the
        class shares, over three classes and over BUY against SELL alone (`direction_skill`), since telling busy hours
        from quiet ones is no edge; `edge` is the verdict and `verdict` the numbers it rests on.
    """
    block_rows = max(2 * judged.overlap_rows, 10)
    bootstrap = BlockBootstrap(len(judged), block_rows, seed)
    competitors = {
        name: _judge_competitor(judged, bootstrap, *said)
        for name, said in _competitors(judged, min_confidence, seed).items()
    }
    skill, p_skill = _compare_losses(judged, bootstrap)
    direction, p_direction = _compare_directions(judged, bootstrap)
    net, p_net = _net_of_model(judged, bootstrap, min_confidence)
    verdict = {
        "p_log_loss": p_skill,
        "p_direction": p_direction,
        "p_net_return": p_net,
        "candidates": candidates,
        "significance": SIGNIFICANCE / candidates,
        "blocks": bootstrap.blocks,
    }
    said = judged.probabilities.argmax(axis=1)
    return {
        "rows": len(judged),
        "min_confidence": min_confidence,
        "class_counts": dict(zip(CLASSES, np.bincount(judged.labels, minlength=_N).tolist(), strict=True)),
        "competitors": competitors,
        "skill": _plain(skill),
        "direction_skill": _plain(direction),
        "net_return_bps": _plain(net),
        "calibration": _judge_calibration(judged, bootstrap),
        "gate": [_judge_gate(judged, bootstrap, least) for least in sorted({*_GATES, min_confidence})],
        "confusion": np.bincount(judged.labels.astype(int) * _N + said, minlength=_N * _N).reshape(_N, _N).tolist(),
        "verdict": verdict,
        "edge": find_edge(verdict),
    }


def find_edge(verdict: dict[str, Any]) -> str:
    """The verdict: "none", "statistical" or "tradable".

    Statistical: the log-loss is lower than that of the class shares over all three classes *and* over BUY against
    SELL, each with a one-sided p below 5 % divided by the number of candidates tried (Bonferroni). Tradable: the net
    return of the gated model after fee and slippage is above zero with such a p as well. With fewer than
    `LEAST_BLOCKS` independent blocks of rows: none.
    """
    if verdict["blocks"] < LEAST_BLOCKS:
        return "none"
    if max(verdict["p_log_loss"], verdict["p_direction"]) >= verdict["significance"]:
        return "none"
    return "tradable" if verdict["p_net_return"] < verdict["significance"] else "statistical"


def log_losses(probabilities: FloatArray, labels: LabelArray) -> FloatArray:
    """-ln of the probability given to what came true, floored at 1e-6, shape (n_rows,)."""
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], LEAST_PROBABILITY))


def gate_signals(probabilities: FloatArray, min_confidence: float) -> LabelArray:
    """What the gate lets pass of each row: BUY or SELL said with enough confidence, else HOLD, shape (n_rows,).

    >>> gate_signals(np.array([[0.2, 0.3, 0.5], [0.44, 0.3, 0.26]]), 0.45).tolist()
    [2, 1]
    """
    said = probabilities.argmax(axis=1)
    return np.where(probabilities.max(axis=1) >= min_confidence, said, HOLD).astype(np.int8)


def _competitors(
    judged: Judged, min_confidence: float, seed: int
) -> dict[str, tuple[FloatArray | None, LabelArray, FloatArray]]:
    """Each competitor's probabilities (None: it states none), its class for each row, and its positions."""
    hold = np.full(len(judged), HOLD, dtype=np.int8)
    buy = np.full(len(judged), BUY, dtype=np.int8)
    model = _positions(judged, judged.gate(min_confidence))
    return {
        "model": (judged.probabilities, _classes(judged.probabilities), model),
        "class_prior": (
            judged.priors,
            _classes(judged.priors),
            _positions(judged, gate_signals(judged.priors, min_confidence)),
        ),
        "always_hold": (None, hold, np.zeros(len(judged))),
        "last_label": (None, judged.last_labels, _positions(judged, judged.last_labels)),
        "buy_and_hold": (None, buy, np.ones(len(judged))),
        "random": (None, *_random_rule(judged, model, seed)),
    }


def _classes(probabilities: FloatArray) -> LabelArray:
    classes: LabelArray = probabilities.argmax(axis=1).astype(np.int8)
    return classes


def _random_rule(judged: Judged, positions: FloatArray, seed: int) -> tuple[LabelArray, FloatArray]:
    """Classes at random in the model's shares, and the mean position of rules that trade at random as often as it."""
    random = np.random.default_rng(seed)
    shares = np.bincount(_classes(judged.probabilities), minlength=_N) / len(judged)
    rate = float(_net(judged, positions)[1].mean())
    flips = random.random((_RANDOM_RULES, len(judged))) < rate
    # Along each series, whose rows lie among those of others.
    order = np.argsort(judged.series, kind="stable")
    rules = np.empty(flips.shape)
    rules[:, order] = np.logical_xor.accumulate(flips, axis=1)
    return random.choice(_N, len(judged), p=shares).astype(np.int8), rules


def _positions(judged: Judged, signals: LabelArray) -> FloatArray:
    order = np.argsort(judged.series, kind="stable")
    positions = np.empty(len(judged))
    positions[order] = hold_positions(signals[order], judged.series[order])
    return positions


def _net(judged: Judged, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Net return and turnover of each row; of several rules (rows of a matrix) their mean."""
    if positions.ndim == 2:
        parts = [_net(judged, one) for one in positions]
        return np.mean([net for net, _ in parts], axis=0), np.mean([traded for _, traded in parts], axis=0)
    order = np.argsort(judged.series, kind="stable")
    net, traded = np.empty(len(judged)), np.empty(len(judged))
    net[order], traded[order] = compute_net_returns(
        positions[order], judged.series[order], judged.next_returns[order], judged.side_costs[order]
    )
    return net, traded


def _judge_competitor(
    judged: Judged,
    bootstrap: BlockBootstrap,
    probabilities: FloatArray | None,
    said: LabelArray,
    positions: FloatArray,
) -> dict[str, Any]:
    stated = np.eye(_N)[said] if probabilities is None else probabilities
    columns = np.zeros((len(judged), _ONE + 1))
    columns[np.arange(len(judged)), judged.labels.astype(int) * _N + said] = 1.0
    columns[:, _LOSS] = np.nan if probabilities is None else log_losses(probabilities, judged.labels)
    columns[:, _BRIER] = ((stated - np.eye(_N)[judged.labels]) ** 2).sum(axis=1)
    columns[:, _NET], columns[:, _TRADED] = _net(judged, positions)
    columns[:, _ONE] = 1.0
    estimates = {
        "log_loss": lambda sums: sums[:, _LOSS] / sums[:, _ONE],
        "brier": lambda sums: sums[:, _BRIER] / sums[:, _ONE],
        "accuracy": lambda sums: sums[:, [0, 4, 8]].sum(axis=1) / sums[:, _ONE],
        "balanced_accuracy": _balanced_accuracy,
        "mcc": _matthews,
        "net_return_bps": lambda sums: _BASIS_POINTS * sums[:, _NET] / sums[:, _ONE],
        "turnover": lambda sums: sums[:, _TRADED] / sums[:, _ONE],
    }
    line: dict[str, Any] = {name: _plain(bootstrap.estimate(columns, found)) for name, found in estimates.items()}
    return line | {"net_return": float(columns[:, _NET].sum()), "exposure": float(positions.mean())}


def _balanced_accuracy(sums: FloatArray) -> FloatArray:
    """The mean recall of the classes that occur."""
    table = sums[:, : _N * _N].reshape(-1, _N, _N)
    truth = table.sum(axis=2)
    recalls = np.divide(np.einsum("nkk->nk", table), truth, out=np.zeros_like(truth), where=truth > 0)
    mean: FloatArray = recalls.sum(axis=1) / (truth > 0).sum(axis=1)
    return mean


def _matthews(sums: FloatArray) -> FloatArray:
    """Matthews' correlation coefficient for several classes (J. Gorodkin, 2004); 0 where one class alone is said."""
    table = sums[:, : _N * _N].reshape(-1, _N, _N)
    truth, said = table.sum(axis=2), table.sum(axis=1)
    whole, right = truth.sum(axis=1), np.einsum("nkk->n", table)
    covariance = right * whole - (truth * said).sum(axis=1)
    spread = (whole**2 - (said**2).sum(axis=1)) * (whole**2 - (truth**2).sum(axis=1))
    found: FloatArray = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(spread), where=spread > 0)
    return found


def _compare_losses(judged: Judged, bootstrap: BlockBootstrap) -> tuple[Estimate, float]:
    own, prior = (log_losses(stated, judged.labels) for stated in (judged.probabilities, judged.priors))
    return _compare(bootstrap, own, prior)


def _compare_directions(judged: Judged, bootstrap: BlockBootstrap) -> tuple[Estimate, float]:
    """As `_compare_losses`, of BUY against SELL, over the rows that were one of them."""
    moved = judged.labels != HOLD
    own, prior = (
        np.where(moved, -np.log(_shares_of_truth(stated, judged.labels)), 0.0)
        for stated in (judged.probabilities, judged.priors)
    )
    return _compare(bootstrap, own, prior)


def _shares_of_truth(stated: FloatArray, labels: LabelArray) -> FloatArray:
    pair = stated[:, [SELL, BUY]]
    total = pair.sum(axis=1)
    up = np.divide(pair[:, 1], total, out=np.full(len(stated), 0.5), where=total > 0)
    stated_of_truth: FloatArray = np.clip(np.where(labels == BUY, up, 1.0 - up), LEAST_PROBABILITY, 1.0)
    return stated_of_truth


def _compare(bootstrap: BlockBootstrap, own: FloatArray, prior: FloatArray) -> tuple[Estimate, float]:
    """The skill, and the p of the hypothesis that the mean loss is no lower than the prior's (paired)."""
    columns = np.stack((own, prior), axis=1)
    skill = bootstrap.estimate(columns, lambda sums: 1.0 - sums[:, 0] / sums[:, 1])
    gain = bootstrap.estimate(columns, lambda sums: sums[:, 1] - sums[:, 0])
    return skill, bootstrap.p_value(gain)


def _net_of_model(judged: Judged, bootstrap: BlockBootstrap, min_confidence: float) -> tuple[Estimate, float]:
    net, traded = _net(judged, _positions(judged, judged.gate(min_confidence)))
    columns = np.stack((net, np.ones(len(net))), axis=1)
    estimate = bootstrap.estimate(columns, lambda sums: _BASIS_POINTS * sums[:, 0] / sums[:, 1])
    # A handful of trades that all came out well are luck, whatever their bars say.
    return estimate, bootstrap.p_value(estimate) if traded.sum() >= 2 * LEAST_BLOCKS else 1.0


def _judge_calibration(judged: Judged, bootstrap: BlockBootstrap) -> dict[str, Any]:
    """Stated confidence against what came true, in bins of equally many rows."""
    confidence = judged.probabilities.max(axis=1)
    right = (judged.probabilities.argmax(axis=1) == judged.labels).astype(float)
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, _BINS + 1)[1:-1]))
    place = np.searchsorted(edges, confidence, side="right")
    member = place[:, None] == np.arange(len(edges) + 1)
    columns = np.concatenate(
        (member * confidence[:, None], member * right[:, None], member.astype(float), np.ones((len(right), 1))), axis=1
    )
    bins = member.shape[1]

    def error(sums: FloatArray) -> FloatArray:
        mean: FloatArray = np.abs(sums[:, :bins] - sums[:, bins : 2 * bins]).sum(axis=1) / sums[:, -1]
        return mean

    lines = []
    for number in range(bins):
        own = columns[:, [number, bins + number, 2 * bins + number]]
        if own[:, 2].any():
            stated, rows = float(own[:, 0].sum() / own[:, 2].sum()), int(own[:, 2].sum())
            came_true = bootstrap.estimate(own, lambda sums: sums[:, 1] / sums[:, 2])
            lines.append({"stated": stated, "came_true": _plain(came_true), "rows": rows})
    return {"error": _plain(bootstrap.estimate(columns, error)), "bins": lines}


def _judge_gate(judged: Judged, bootstrap: BlockBootstrap, least: float) -> dict[str, Any]:
    """How many rows a least confidence lets pass, what they state, and how many of them came true."""
    signals = judged.gate(least)
    passed = signals != HOLD
    columns = np.stack((passed, passed & (signals == judged.labels), np.ones(len(passed))), axis=1).astype(float)
    stated = float(judged.probabilities.max(axis=1)[passed].mean()) if passed.any() else None
    return {
        "confidence": least,
        "coverage": _plain(bootstrap.estimate(columns, lambda sums: sums[:, 0] / sums[:, 2])),
        "stated": stated,
        "hit_rate": _plain(bootstrap.estimate(columns, lambda sums: sums[:, 1] / sums[:, 0])),
    }


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
