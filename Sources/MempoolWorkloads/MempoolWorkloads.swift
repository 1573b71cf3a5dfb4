// MempoolWorkloads.
