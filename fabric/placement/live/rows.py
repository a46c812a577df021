"""The columns that a book keeps, row by row."""

from __future__ import annotations

import numpy as np

from fabric.placement.replay.ledger import FIGURES, RECORD

NOBODY = -1

LIFE = np.dtype(
    [
        ("size", "<i8"),
        ("object", "<i8"),
        ("birth", "<i4"),  # days since the book's first
        ("end", "<i4"),
        ("moves", "<i4"),  # made since birth
        ("ended", "?"),
        ("put", "?"),
    ]
)
MOVE = np.dtype(
    [
        ("life", "<i8"),
        ("after_reads", "<i8"),
        ("day", "<i4"),
        ("to", "<i2"),
        ("rule", "<i2"),
        ("reads", "<i8"),  # of that day
        ("bytes", "<f8"),
        ("figures", "<f4", (FIGURES,)),  # f, l, c, t, score and confidence of a demotion, NaN of a promotion
        ("record", RECORD),  # as the day began
    ]
)
WOKEN = np.dtype([("life", "<i8")])
OBJECT = np.dtype([("life", "<i8"), ("gone", "?")])  # the last life, NOBODY where none goes on
MAPPED = ("lives", "objects", "records", "woken", "before", "moves")
LAST = np.dtype([("life", "<i8"), ("reads", "<i8"), ("bytes", "<f8")])
DTYPES: dict[str, np.dtype[np.void]] = {
    "lives": LIFE,
    "objects": OBJECT,
    "records": RECORD,
    "woken": WOKEN,
    "before": RECORD,
    "moves": MOVE,
    "last": LAST,
}
