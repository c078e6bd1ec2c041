"""The only room that knows attributes: pure functions on DICOM data sets, values in and values out."""
