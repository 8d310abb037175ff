"""Training: dataset → fit → calibrate → operating points → evaluate → export."""
