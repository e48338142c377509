"""The graded data set on disk: schema, Parquet store."""
