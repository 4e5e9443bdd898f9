"""The real engine on a clock that jumps, in a world where anything may fail, all of it drawn from one seed."""
