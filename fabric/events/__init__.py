"""Accesses: batches of columns from intake to history, a durable log, and what is remembered per object."""
