"""The run history: a folder for each run, what is recorded, runs side by side, and the copy in MLflow."""
