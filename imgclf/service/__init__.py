"""The classifier as a REST service, and its client."""
