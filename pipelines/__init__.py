"""What the service does: the only folder that knows pictures."""
