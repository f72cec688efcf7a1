"""aiokafka's iterator over the records of a batch, in C. Loaded late: all of aiokafka comes with it.

Used by raw.py only; mesh/process/service.py loads it on a thread once the node is ready.
"""
from aiokafka.errors import CorruptRecordException
from aiokafka.record._crecords.default_records import DefaultRecord, DefaultRecordBatch

__all__ = ["CorruptRecordException", "DefaultRecord", "DefaultRecordBatch"]
