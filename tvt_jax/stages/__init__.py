"""The training stages, each a frozen dataclass of hyperparameters with a pure `init` and a pure `step`."""
