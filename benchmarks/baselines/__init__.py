"""The servers that Huoji is compared with; each is a program of its own."""
