"""One transformer for seven families."""
