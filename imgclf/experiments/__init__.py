"""Experiments: running the notebooks in order, and sweeps over their parameters."""
