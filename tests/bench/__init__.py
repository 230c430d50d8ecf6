"""
The benchmark: Podlock beside no mesh and beside sidecars, in one topology.

    world         two nodes, a wire, pods and what listens in them
    contestants   how a client of each contestant reaches the far application
    peers/*.yaml  sidecars: a program and the template of its configuration
    load.c        the clients, serve.c the server; `load` compiles and calls them
    cases         what is asked of each contestant, and which figures come of it
    harness       rounds: every contestant in turn, so that noise hits all alike
    statistics    medians, spreads, the best peer
    goals         what Podlock promises, and whether this run bears it out
    report, plot  for a person; `--json` for a program
"""
