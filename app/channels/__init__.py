"""Marketplaces: their wire formats to and from the domain's types, one folder each. No database, no web framework."""
