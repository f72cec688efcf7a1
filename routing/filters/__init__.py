"""Topic filters: which of many match a topic, and which events the filters of one consumer want."""
