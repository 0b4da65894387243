"""The GPU in this machine, or an imitated one, as JAX and XLA present it."""
