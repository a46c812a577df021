"""Moves replicas: verified, journaled, undoable.

A *job* moves one replica of one version from its *source* place to a *target* place. An *edge* is that pair: between
two stores the bytes are copied, inside one store the storage class is changed in place. The *switch* is the one
conditional write of the head that makes readers go to the new place. *Grace* is how long the source copy is kept
after the switch, so that an undo is a switch back; *reaping* removes it afterwards. *Litter* is what a roll-back
could not remove because its store did not answer; it is swept when the store is back.
"""
