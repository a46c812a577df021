"""Builds and wires everything; the only package that knows every name.

`engine.py` builds the fabric over a data folder, `run.py` runs it until it is stopped, `display.py` shows its reports
from another process, `client.py` reaches it for one command, `maintenance.py` works on a data folder whose engine is
stopped, `acts.py` holds what people may ask for.
"""
