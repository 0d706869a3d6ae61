"""The checks of ``huoji doctor``."""
