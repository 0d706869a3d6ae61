"""Ties the stages together: inbox, lanes, and the one transaction from a webhook's row to what came of it."""
