"""What any board shares: its parts, what slows it down, how fast its memory is, which models fit."""
