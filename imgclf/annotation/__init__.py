"""The labels that a person corrects: what to look at, in what order, and what looks wrong."""
