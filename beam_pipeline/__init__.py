"""Batch scoring of radiographs: match → read ahead → infer → decide → write."""
