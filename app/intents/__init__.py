"""Understanding buyers' messages: an utterance and a knowledge snapshot in, ranked entries with a confidence out.

Pure: no database, no network, no settings. Start at ``matcher.py``.
"""
