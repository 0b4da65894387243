"""What a training run is given and what it leaves: settings, cases, checkpoints."""
