"""The time machine: what a past would have cost under any policy, to the cent.

A *trace* is a past at day grain; a *life* is one version of one object, from its PUT to its overwrite, deletion or the
end of the trace; a *tariff* is the prices of the classes compared, as arrays; *moves* are what a policy did, and all
that it hands over: one function bills them, whoever made them. Every policy is a function (trace, tariff) -> moves.
"""
