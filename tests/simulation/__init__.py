"""A seeded simulation of several processes over one database: every fault at every moment, and always the same.

The processes run the program's own inbox, lanes, turns, leases, ownership, backlog, outbox feed, sender, batch writer
and desk. Simulated are what is around them:

* time and the event loop (``loop``): virtual, one thread, each process with a clock of its own; a process can stand
  still or be killed between any two steps;
* the database (``rows``, ``store``): PostgreSQL's guarantees that the program relies on, with delays, outages, cut
  lines, collisions, and commits whose answer is lost or that happen after their client has gone;
* marketplace and bus (``network``): delays, losses, repeats, outcomes that nobody learns;
* understanding and deciding (``parts``): what the bot says is of no interest here, only that it says it once.

What can't be simulated in place is put in at the nearest seam: ``Database`` and ``LeaseLine`` are replaced as a whole,
since they are nothing but connections; SQL text is run by SQLite in memory, translated where PostgreSQL writes it
otherwise, and transactions that would run beside each other are run one after the other at the moment of their commit
(what they lock is locked meanwhile). Left out are the console's sockets, presence, routing and knowledge.

``python -m tests.simulation --seeds 10000`` runs seeds, ``--seed N --trace`` shows one.
"""
