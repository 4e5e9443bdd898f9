"""Notifications of what happens to runs: alerts for people, webhooks for programs."""
