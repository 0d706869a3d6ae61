"""The human side: people and their sessions, the queue, routing, presence, and what agents do in conversations."""
