"""Who is told of what happens to runs: people by alerts, programs by webhooks."""
