"""Copies of versions and the heads that point at them.

A *write* is COMMITTED once its level's number of replicas is durable and its head committed; FAILED when nothing
of it is current; UNKNOWN when the answer was lost. A *dot* is one write's own mark (lane, counter); a *context*
is what its writer had seen. *Siblings* are versions none of which had seen the other. A replica is *intended*
while a hand-off still owes it its bytes; it never counts toward a quorum. A *lane* is a writer name that no two
writes of one key hold at the same time, so that the counters of a lane rise in the order of its commits.
"""
