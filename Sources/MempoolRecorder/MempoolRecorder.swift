// MempoolRecorder.
