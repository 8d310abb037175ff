"""What a model said of labelled images: thresholds, figures, pages."""
