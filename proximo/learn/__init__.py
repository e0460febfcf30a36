"""The algorithm: collect a rollout, update on it, again."""
