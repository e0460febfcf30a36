"""Five environments as one would write one's own: NumPy and Gymnasium, in watts, euros and pieces."""
