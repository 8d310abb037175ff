"""A data set, looked at before anything is trained on it."""
