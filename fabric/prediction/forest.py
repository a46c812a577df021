"""A rolling random forest: new trees grow on the newest days, the oldest trees are dropped.

scikit-learn grows the trees (imported on first use, in the process that fits); what is kept and used to predict are
plain arrays, so that a model is stored without pickling code and read without scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fabric.prediction.features import Floats

ROWS_PER_TREE_MOST = 10_000
DEPTH_MOST = 10
LEAF_LEAST = 20  # rows in a leaf
LEAF_SHARE = 0.002  # of a tree's rows, where that is more
FEATURE_SHARE = 0.4  # of the features looked at for each split

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees, oldest first, as one array of nodes.

    Attributes:
        roots: shape (trees,), node number of each root.
        left, right: shape (nodes,), children; a leaf points to itself.
        feature: shape (nodes,), column that the split reads (0 for a leaf).
        threshold: shape (nodes,), rows with a value <= it go left.
        value: shape (nodes,), median target of the rows in the leaf: what absolute error asks for.
    """

    roots: Ints
    left: Ints
    right: Ints
    feature: Ints
    threshold: Floats
    value: Floats

    @staticmethod
    def empty() -> Forest:
        """Return a forest without trees."""
        nodes = np.zeros(0, dtype=np.int32)
        return Forest(nodes, nodes, nodes, nodes, np.zeros(0), np.zeros(0))

    @property
    def trees(self) -> int:
        """How many trees stand."""
        return len(self.roots)

    def predict(self, x: Floats) -> Floats:
        """Return shape (rows,), the mean over the trees; ValueError for a forest without trees."""
        if not self.trees:
            raise ValueError("the forest has no trees yet")
        values = x.astype(np.float32)  # scikit-learn splits on single precision
        sums = np.zeros(len(x))
        for root in self.roots:
            sums += self.value[self._leaves(values, int(root))]
        return sums / self.trees

    def _leaves(self, x: NDArray[np.float32], root: int) -> NDArray[np.int64]:
        nodes = np.full(len(x), root, dtype=np.int64)
        rows = np.arange(len(x))
        for _ in range(DEPTH_MOST):
            goes_left = x[rows, self.feature[nodes]] <= self.threshold[nodes]
            nodes = np.where(goes_left, self.left[nodes], self.right[nodes])
        return nodes

    def rolled(self, grown: Forest, most: int) -> Forest:
        """Return the newest ``most`` trees of this forest followed by ``grown``."""
        return _joined([*self._split(), *grown._split()][-most:])

    def _split(self) -> list[Forest]:
        ends = [*self.roots[1:].tolist(), len(self.left)] if self.trees else []
        return [self._cut(int(start), end) for start, end in zip(self.roots, ends, strict=True)]

    def _cut(self, start: int, end: int) -> Forest:
        nodes = slice(start, end)
        return Forest(
            np.zeros(1, dtype=np.int32),
            self.left[nodes] - start,
            self.right[nodes] - start,
            self.feature[nodes],
            self.threshold[nodes],
            self.value[nodes],
        )


def grow(x: Floats, y: Floats, *, trees: int, seed: int) -> Forest:
    """Grow ``trees`` trees, each on a bootstrap sample of the rows, on one thread.

    Args:
        x: shape (rows, features); rows >= 1.
        y: shape (rows,).
        seed: makes the result repeatable.

    Source: L. Breiman, Random Forests, Machine Learning 45, 2001, 5-32; medians of leaves: N. Meinshausen, Quantile
    Regression Forests, JMLR 7, 2006.
    """
    from sklearn.tree import DecisionTreeRegressor  # on first use: it takes a second and a hundred megabytes

    random = np.random.default_rng(seed)
    grown = []
    for _ in range(trees):
        rows = random.integers(0, len(y), min(len(y), ROWS_PER_TREE_MOST))
        tree = DecisionTreeRegressor(
            max_depth=DEPTH_MOST,
            min_samples_leaf=max(LEAF_LEAST, int(LEAF_SHARE * len(rows))),
            max_features=FEATURE_SHARE,
            random_state=int(random.integers(1 << 31)),
        )
        inputs = x[rows].astype(np.float32)
        tree.fit(inputs, y[rows])
        plain = _plain(tree.tree_)
        grown.append(replace(plain, value=_medians(plain.value, tree.apply(inputs), y[rows])))
    return _joined(grown)


def _medians(means: Floats, leaves: NDArray[np.int64], y: Floats) -> Floats:
    """Return the nodes' values with each leaf's set to the (upper) median of the rows that fell into it."""
    order = np.lexsort((y, leaves))
    nodes, starts, sizes = np.unique(leaves[order], return_index=True, return_counts=True)
    values = means.copy()
    values[nodes] = y[order][starts + sizes // 2]
    return values


def _plain(nodes: object) -> Forest:
    left, right, feature, threshold, value = (
        np.asarray(getattr(nodes, name))
        for name in ("children_left", "children_right", "feature", "threshold", "value")
    )
    own, leaf = np.arange(len(left)), left < 0
    return Forest(
        np.zeros(1, dtype=np.int32),
        np.where(leaf, own, left).astype(np.int32),
        np.where(leaf, own, right).astype(np.int32),
        np.where(leaf, 0, feature).astype(np.int32),
        np.where(leaf, 0.0, threshold).astype(np.float64),
        value.reshape(len(left)).astype(np.float64),
    )


def _joined(trees: list[Forest]) -> Forest:
    if not trees:
        return Forest.empty()
    starts = np.cumsum([0, *(len(tree.left) for tree in trees)])[:-1]
    shifted = list(zip(trees, starts.tolist(), strict=True))
    return Forest(
        starts.astype(np.int32),
        np.concatenate([tree.left + start for tree, start in shifted]).astype(np.int32),
        np.concatenate([tree.right + start for tree, start in shifted]).astype(np.int32),
        np.concatenate([tree.feature for tree in trees]),
        np.concatenate([tree.threshold for tree in trees]),
        np.concatenate([tree.value for tree in trees]),
    )
