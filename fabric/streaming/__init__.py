"""Component 3: takes events in durably, cuts them into windows, watches for what is unusual, feeds the history.

*Intake* accepts batches (durable before the answer) and the data plane's own notes. A *window* is 1, 5 or 10 s of
event time. A *stream* is the total or one store. The *sink* is the access history, behind a circuit breaker; what it
has not taken yet lies in the event log, and its rows are the *buffer* whose fill is watched.
"""
