"""Experiments: running the notebooks in order, sweeps over their parameters, and the run history."""
