"""JAX programs by slabs: a rule for each primitive, and the loops over slabs."""
