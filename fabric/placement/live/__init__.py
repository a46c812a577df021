"""The ledger of the replay, kept live: one per store that has several classes of one provider.

An *account* is what a store's ledger keeps of one object: its lives, its record, its moves. Accesses are merged per
object and day in an *open day*; a day is *closed* when the watermark has passed its midnight, and only then does the
rule live it. What a closed day holds is what `replay` would have read of the same rows, so the decisions are the same.
"""
