"""Builds and wires everything; the only file that knows every name."""
