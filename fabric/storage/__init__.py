"""Bytes: a *store* is a named place that holds objects under keys; every driver and wrapper keeps one protocol.

`store.py` states the promises; `local.py`, `memory.py`, `s3.py`, `azure.py` and `gcs.py` keep them; `wrappers.py` adds
retry, limits, shaping, faults and metering by wrapping one store in another; `probe.py` finds out what a store does.
"""
