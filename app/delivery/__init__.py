"""What must leave (the outbox) and what falls due (timers)."""
