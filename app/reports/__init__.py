"""Read-only figures and explanations, computed from what the other stages stored."""
