"""Who a workload is: SPIFFE IDs, X.509-SVIDs, the authority, renewal."""
