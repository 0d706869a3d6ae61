"""The migration scripts, run by ``app.storage.schema``; nothing imports them."""
