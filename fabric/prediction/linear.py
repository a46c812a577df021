"""Linear regression that forgets: recursive least absolute errors by reweighted squares, one model for all objects.

Forecasts are judged by absolute error, whose best point is the median. Squares would aim at the mean, which a few
bursts carry away on a rarely read archive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fabric.prediction.features import Floats

RIDGE = 0.1  # squared-coefficient penalty on standardised features, as a share of the rows; draws slopes to zero
ERROR_LEAST = 0.05  # error under which a row weighs no more
PASSES = 3  # over new rows: each takes their weights from the errors of the one before


@dataclass(frozen=True, slots=True)
class Linear:
    """What least squares needs of every row seen so far.

    Attributes:
        gram: shape (features + 1, features + 1), the decayed sum of x x'; the last column is the constant.
        moment: shape (features + 1,), the decayed sum of x y.
        rows: decayed number of rows.
    """

    gram: Floats
    moment: Floats
    rows: float = 0.0

    @staticmethod
    def empty(features: int) -> Linear:
        """Return a model that has seen nothing."""
        return Linear(np.zeros((features + 1, features + 1)), np.zeros(features + 1))

    def learned(self, x: Floats, y: Floats, *, keep: float = 1.0) -> Linear:
        """Return the model after more rows, each weighed by one over its error, so that errors count by their size.

        Rows keep the weight that they came with: what is seen once is not read again.

        Source: iteratively reweighted least squares, E. J. Schlossmacher, JASA 68, 1973, 857-859.
        """
        model = self
        for _ in range(PASSES):
            errors = np.abs(y - model.predict(x))
            model = self.updated(x, y, keep=keep, weights=1 / np.maximum(errors, ERROR_LEAST))
        return model

    def updated(self, x: Floats, y: Floats, *, keep: float = 1.0, weights: Floats | None = None) -> Linear:
        """Return the model after more rows; everything seen before weighs ``keep`` times as much.

        In information form the recursion is exact: the result equals one batch fit with the same weights.

        Args:
            x: shape (rows, features).
            y: shape (rows,).
            keep: in (0, 1], the forgetting factor of this step.
            weights: shape (rows,), of the new rows; 1 each where none are given.

        Source: recursive least squares with exponential forgetting, L. Ljung, System Identification, 2nd ed., 11.2.
        """
        design = _with_constant(x)
        weighed = design if weights is None else design * weights[:, None]
        return Linear(
            keep * self.gram + weighed.T @ design, keep * self.moment + weighed.T @ y, keep * self.rows + len(y)
        )

    def coefficients(self, ridge: float = RIDGE) -> Floats:
        """Return shape (features + 1,): the minimiser of the weighted squares plus ``ridge`` x rows x squared slopes.

        Slopes are those of features divided by their spread, so that no unit of measurement is drawn harder.
        """
        total = max(float(self.gram[-1, -1]), 1e-300)  # the weight of all rows
        spreads = np.maximum(np.diag(self.gram) - self.gram[-1] ** 2 / total, 0.0)
        penalty = ridge * (spreads + 1.0)
        penalty[-1] = ridge * total if self.rows > 0 else 1.0  # a drift common to all objects is believed less, too
        return np.asarray(np.linalg.solve(self.gram + np.diag(penalty), self.moment))

    def predict(self, x: Floats) -> Floats:
        """Return shape (rows,)."""
        return np.asarray(_with_constant(x) @ self.coefficients())


def _with_constant(x: Floats) -> Floats:
    return np.column_stack([x, np.ones(len(x))])
