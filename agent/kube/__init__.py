"""
Where we learn of objects: Kubernetes manifests in a directory, or an API server.

    kinds, convert, objects    what is read of each kind, and how
    documents, manifests       YAML files, and what is in force of them
    directory                  ~ looks at the files

    watch, failure, resources  list and watch without the network; what to ask, and when
    store, trim                what is kept of each resource
    access, credentials,
    client                     ~ who we are to the API server, and requests to it
    reflector, source          ~ one task a resource; all of them as one Change
    marks, announcer           ~ what is written to pods, and Events
    conditions,
    condition_writer           ~ what is wrong with a policy, in its status
    token_review               ~ who bears a ServiceAccount token
    shared_state               ~ an authority's state for all its replicas
"""
