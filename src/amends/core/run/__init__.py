"""What happens in a run: commands, events, the record they fold to, and the rules that decide."""
