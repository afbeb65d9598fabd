"""From a release's files to its figures, beside the published ones: `python -m benchmarks.reproduce`."""
