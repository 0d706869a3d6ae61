"""Shops and their marketplace accounts: as stored, and as every process has them at hand."""
