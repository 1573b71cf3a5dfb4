// MempoolReporters.
