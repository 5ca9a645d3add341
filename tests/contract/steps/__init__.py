"""Every atomic step, on fakeredis and on every real server at hand: its outcomes, and that a repeated one (a lost
reply) has the effect of one."""
