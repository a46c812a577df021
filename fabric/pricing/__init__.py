"""Money: dated price sheets as data, and pure functions that turn bytes, reads and moves into itemised dollars.

A *sheet* holds one provider's prices with their source, date and confidence; the *book* is all sheets with the user's
own rates laid over them. A *line* is one item of a bill with the inputs of its formula, so that every figure on any
screen can be recomputed. 1 GB is 2^30 bytes, a month is 30 days. *Sunk* capacity (on-premise) is bytes, not dollars,
until the user gives a marginal price.
"""
