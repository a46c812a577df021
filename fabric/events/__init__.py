"""Accesses: what was read, written or deleted, when, where and by whom.

A *batch* is accesses in columns (`batch.py`). The *log* keeps every accepted batch durably under consecutive
*offsets*, one per row (`log.py`). The *history* is what the log says of each object: one fixed *record*, and *rings*
of its last 64 days and 48 hours (`history.py`); it can always be rebuilt from the log.
"""
