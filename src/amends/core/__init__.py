"""The pure core: what a saga is, what follows from what happened, and what is owed next."""
