"""What only a cluster has: Kubernetes' API, KServe, Leases."""
