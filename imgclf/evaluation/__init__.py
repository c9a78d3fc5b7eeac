"""How good a classifier is: metrics with intervals, curves, calibration, rejection, comparison, reports."""
