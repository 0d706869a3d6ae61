"""Order context: read through an account's channel, cached with its age, marked stale when it couldn't be refreshed."""
