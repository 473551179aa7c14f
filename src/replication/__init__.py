"""The study: from the claims of the paper to the verdicts of the book. Only `experiments` runs a model."""
