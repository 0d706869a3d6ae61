"""The reply policy: a turn in, a decision out. Pure: no I/O, no settings, no clock of its own."""
