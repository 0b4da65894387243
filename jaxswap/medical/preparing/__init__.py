"""Cases -> arrays to train on."""
