"""The data set on disk: which images there are, their labels, train and test, and what a person changed."""
