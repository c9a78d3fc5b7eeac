"""Labels and their correction: the state behind the annotator and the results browser, without widgets."""
