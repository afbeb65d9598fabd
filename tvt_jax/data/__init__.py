"""Input: image sources, tiles on disk, degradation and the batches that training reads."""
