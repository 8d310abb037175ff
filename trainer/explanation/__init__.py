"""Single radiographs: a label, and where in the image a score comes from."""
