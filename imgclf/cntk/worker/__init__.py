"""What runs in Python 3.6. The parent imports `messages` and `layers` too, so nothing here is newer than that, and nothing happens on import."""
