"""Programs that measure Huoji beside simpler servers on the same machine; see README.md."""
