"""DICOMweb (PS3.18): instances stored and found at a destination over HTTP."""
