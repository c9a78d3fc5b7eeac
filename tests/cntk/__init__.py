"""Tests against the real CNTK 2.7, in the environment that `make cntk` makes."""
