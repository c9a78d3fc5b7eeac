"""CNTK 2.7, which needs Python 3.6, in a worker process: requests and replies go through a pipe."""

from imgclf.cntk.process import WorkerProcess, environment

__all__ = ["WorkerProcess", "environment"]
