"""Where images come from: manifests, fetching, the demo set."""
