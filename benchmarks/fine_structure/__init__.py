"""How much fine structure a result keeps: texture by spatial frequency, edges, line pairs, and small text."""
