"""What perf/run consists of: scenarios, processes, measurements, and the reports on them."""
