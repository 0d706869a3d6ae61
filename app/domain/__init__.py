"""Frozen types that every stage speaks. Imports core only; no I/O."""
