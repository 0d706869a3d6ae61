"""The knowledge base as people keep it: files, drafts, versions, and what is in service."""
