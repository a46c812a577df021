"""The command line: `python -m fabric`. Every command speaks HTTP to the engine, or to the same pages in-process."""
