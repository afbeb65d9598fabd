"""Scores of results against the truth, and a report of them."""

from tvt_jax.evaluation.evaluate import run
from tvt_jax.evaluation.metrics import DEFAULT_METRICS, METRICS

__all__ = ["DEFAULT_METRICS", "METRICS", "run"]
