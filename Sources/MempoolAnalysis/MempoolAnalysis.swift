// MempoolAnalysis.
