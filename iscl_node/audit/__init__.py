"""The audit trail: DICOM audit messages (PS3.15 A.5), kept on disk and sent to a syslog server."""
