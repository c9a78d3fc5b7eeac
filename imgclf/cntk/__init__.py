"""CNTK 2.7, which runs on Python 3.6 and older only, beside us: a worker process that computes what it is sent through a pipe."""

from imgclf.cntk.process import Process, environment

__all__ = ["Process", "environment"]
