"""The notebooks in order, and sweeps over their parameters."""
