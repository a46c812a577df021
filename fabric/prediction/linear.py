"""Linear regression that forgets: exact recursive least squares, one model for all objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fabric.prediction.features import Floats

RIDGE = 1.0  # squared-coefficient penalty, in rows; keeps unseen directions at zero


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

    def updated(self, x: Floats, y: Floats, *, keep: float = 1.0) -> Linear:
        """Return the model after more rows; everything seen before weighs ``keep`` times as much.

        In information form the recursion is exact: the result equals one batch fit with the same weights.

        Args:
            x: shape (rows, features).
            y: shape (rows,).
            keep: in (0, 1], the forgetting factor of this step.

        Source: recursive least squares with exponential forgetting, L. Ljung, System Identification, 2nd ed., 11.2.
        """
        design = _with_constant(x)
        return Linear(
            keep * self.gram + design.T @ design, keep * self.moment + design.T @ y, keep * self.rows + len(y)
        )

    def coefficients(self, ridge: float = RIDGE) -> Floats:
        """Return shape (features + 1,), the minimiser of the weighted squares plus ``ridge`` x squared slopes."""
        penalty = np.full(len(self.moment), ridge)
        penalty[-1] = 0.0 if self.rows > 0 else 1.0
        return np.asarray(np.linalg.solve(self.gram + np.diag(penalty), self.moment))

    def predict(self, x: Floats) -> Floats:
        """Return shape (rows,)."""
        return np.asarray(_with_constant(x) @ self.coefficients())


def _with_constant(x: Floats) -> Floats:
    return np.column_stack([x, np.ones(len(x))])
