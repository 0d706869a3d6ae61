"""Huoji (伙计): an open-source customer-service assistant for e-commerce shops."""

__version__ = "0.1.0"
