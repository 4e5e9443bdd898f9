"""Protocols, cut at meaning: the transaction log, transports, inboxes, codecs and the clock."""
