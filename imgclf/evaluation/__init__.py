"""Evaluation: metrics with intervals, curves, calibration, rejection, comparison, reports."""
