"""The truth about objects: heads, decisions, jobs, forecasts, health and alerts, each table with one writer.

`database.py` is the one way in: a single writer thread with group commit, many readers. Every other module owns
the tables it defines and is the only code that writes them.
"""
