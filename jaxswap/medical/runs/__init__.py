"""The input of a training run and what it leaves: settings, cases, checkpoints."""
