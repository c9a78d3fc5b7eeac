"""A linear support vector machine (SVM) on feature vectors, with C chosen by cross-validation."""

from imgclf.svm.folds import FOLDS, Fold, folds_of, places
from imgclf.svm.head import Head, normalized, read, write
from imgclf.svm.search import BY_C, CSearch
from imgclf.svm.solver import one_blas_thread
from imgclf.svm.temperature import cross_entropy, fit_temperature, probabilities
from imgclf.svm.training import out_of_fold_scores, train

__all__ = [
    "BY_C",
    "FOLDS",
    "CSearch",
    "Fold",
    "Head",
    "cross_entropy",
    "fit_temperature",
    "folds_of",
    "normalized",
    "one_blas_thread",
    "out_of_fold_scores",
    "places",
    "probabilities",
    "read",
    "train",
    "write",
]
