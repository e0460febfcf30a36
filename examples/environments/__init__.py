"""Five examples of environments of your own: NumPy and Gymnasium, in watts, euros and pieces."""
