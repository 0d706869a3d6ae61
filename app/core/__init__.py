"""Things without any business in them: clock, ids, errors, logs, metrics, secrets. Imports nothing of ours."""
