"""Labelled files, whose patients are divided, and the model inputs they become."""
