"""The persistent log: streams of partitions of segments of Kafka RecordBatch v2."""
