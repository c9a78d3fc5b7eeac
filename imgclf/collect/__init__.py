"""Manifests of images, fetching what they list, and the synthetic demo set."""
