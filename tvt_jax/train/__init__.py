"""One train loop for every stage: resume, evaluate, save, next batch, step, log."""
