// Mempool.
