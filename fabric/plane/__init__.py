"""The object API: bytes in and out over HTTP, by the policy of each object.

*Managed* objects are versions with heads, replicas and a suite. *Adopted* ones are a store's own keys, listed and
read under ``STORE/KEY``; they are opened only in modes that may (copy, move) and never written here.
"""
