"""Builds and wires everything; the only package that knows every name. `engine.py` is where to start."""
