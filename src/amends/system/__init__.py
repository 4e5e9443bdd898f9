"""What the operating system and the interpreter do to a process: forks, interrupts, threads."""
