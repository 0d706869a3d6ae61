"""The sandbox marketplace of ``huoji demo``: buyers, orders and a page to play a buyer, spoken to over real HTTP."""
