"""The words that everything else in the core is written in: keys, errors, limits, retry policies, values."""
