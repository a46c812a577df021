"""The sample world and the scenarios behind the scripts: what runs without configuration, on real bytes."""
