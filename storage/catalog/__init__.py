"""Rows: every query, as verbs of the domain. No session, row or `select` leaves this folder."""
