"""Hints between the processes of one installation: "look again", never the thing itself."""
