"""PPO where an environment answers: from a configuration to a run with its policy."""
