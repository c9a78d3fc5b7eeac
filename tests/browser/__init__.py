"""The notebooks in JupyterLab, in a real browser."""
