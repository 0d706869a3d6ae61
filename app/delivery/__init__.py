"""What must leave: the outbox and its sender."""
