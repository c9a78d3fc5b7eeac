"""What people touch in a notebook: thin over plain objects."""
