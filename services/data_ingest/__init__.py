"""The sequencer: see protos/tradeul/v1/data_ingest.proto."""
