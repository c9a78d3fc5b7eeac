"""The worker process, which runs in Python 3.6.

The parent imports `messages` and `layers` too, so nothing here is newer than Python 3.6, and nothing happens
on import.
"""
