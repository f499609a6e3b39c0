"""Serving: requests, batches, KV cache and replicas as they go on in simulated time."""
