"""The running machine: records in, alerts and rejected records out; it knows no SQL and no host."""
