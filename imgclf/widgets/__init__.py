"""Notebook widgets and charts. They show and change plain objects, which hold all state."""
