"""
`./run soak`: correctness under speed.

    plan, sequence      what every connection does, and which bytes it carries (by seed)
    endpoint            one end of one connection, in a pod, and what it saw
    client, server      the two programs that run in pods
    judge               both ends' reports of a connection -> what is wrong with it
    inventory, memory   what may not grow: descriptors, map entries, sockets, PSS
    paths, world        which pods talk to which, and how; policy that comes and goes
    soak                all of it together, for some minutes
"""
