"""The data set on disk: which images there are, their labels, train and test, and what a person changed."""

from imgclf.data.labels import labels_of as labels_of
