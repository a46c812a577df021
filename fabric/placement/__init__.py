"""Component 1, placement: prices every allowed place of every object, decides, and leaves a receipt for each.

A *place* is a store and one of its classes; an *option* is one copy that could move to one place; a *decision* says
what becomes of an object (move, keep, refused) and rests on a *receipt*; a *survey* is how all places stood at that
moment. Pure rules: `score`, `demand`, `options`, `decide`, `places`, `bill`, `plan`; `work` takes one bounded step,
`component` runs it, `report` shows it.
"""
