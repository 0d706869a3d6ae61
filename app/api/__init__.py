"""The edges towards marketplaces and people: webhooks, the HTTP API, agents' sockets, problem details."""
